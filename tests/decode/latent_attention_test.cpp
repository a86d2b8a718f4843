// Decoding with latent attention: trees of drafts, sampled text, several sequences, what caches
// hold, and weights in 8 bits.
#include <doctest/doctest.h>

#include <vector>

#include "decode/tree_cases.hpp"
#include "mtp/model/quantized_model.hpp"
#include "support/latent_config.hpp"

namespace mtp::test::decode_tree_cases {

namespace {

constexpr auto sequential = with_latents(spoken_config(head_kind::sequential, 3, P));
constexpr auto parallel = with_plain_queries(spoken_config(head_kind::parallel, 3, P));

}  // namespace

TEST_CASE("trees of drafts over latent attention give the text and logits of plain decoding") {
  SUBCASE("sequential") {
    CHECK(check_all_options<sequential>(quality::close) > 20);
    check_all_options<sequential>(quality::untrained);
  }
  SUBCASE("parallel") {
    CHECK(check_all_options<parallel>(quality::close) > 20);
  }
}

TEST_CASE("caches of latents behind trees are those of a fresh prompt") {
  writer<sequential> w;
  check_caches(w, draft_tree::of_widths({3, 2, 1}));
  writer<parallel> other;
  check_caches(other, draft_tree::by_confidence(16));
}

TEST_CASE("each of many sequences over latent attention gets what it would get alone") {
  writer<sequential> w;
  check_company(w);
}

TEST_CASE("sampled text over latent attention is the same with drafts") {
  writer<sequential> w;
  for (options_type options : all_options()) {
    options.mode = decode_mode::plain;
    const auto plain = record(w.generator, random_tokens(11, V, 4), options);
    options.mode = decode_mode::speculative;
    const auto text = record(w.generator, random_tokens(11, V, 4), options);
    CHECK(same_text(text, plain));
    CHECK(text.result.accepted[0] > 0);
  }
}

TEST_CASE("with weights in 8 bits, matrices that are read in parts stay as they are") {
  cpu_context context({.threads = 2});
  language_model<sequential, cpu> model(context, seed{3});
  add_noise(model, 0.3);
  quantized_model quantized = quantize(context, model);
  int in_parts = 0, in_bytes = 0;
  model.layout.visit([&](const std::string& name, const parameter& p) {
    if (p.is_vector()) return;
    CAPTURE(name);
    const bool up =
        name.find("k_up_proj") != std::string::npos || name.find("v_up_proj") != std::string::npos;
    CHECK(p.fits(quantized_format::int8) == !up);
    const auto stored = quantized.values().matrix(p);
    CHECK((stored.quantized != nullptr) == (!up && name != "embed_tokens.weight"));
    CHECK((stored.data != nullptr) == (up || name == "embed_tokens.weight"));
    if (up) {
      CHECK(same_bits(quantized.values().storage(p), model.values().storage(p)));
    }
    in_parts += up ? 1 : 0;
    in_bytes += stored.quantized != nullptr ? 1 : 0;
  });
  CHECK(in_parts == 2 * (2 + 3));  // of two layers and three modules
  CHECK(in_bytes > 0);
  generator<sequential, cpu> generator(context, quantized);
  for (options_type options : all_options()) {
    options.mode = decode_mode::plain;
    const auto plain = record(generator, random_tokens(11, V, 4), options);
    options.mode = decode_mode::speculative;
    CHECK(same_text(record(generator, random_tokens(11, V, 4), options), plain));
  }
}

}  // namespace mtp::test::decode_tree_cases
