// Latent attention on a GPU: drafts, trees of them and sampled text are those of plain decoding.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "support/cuda_cases.hpp"
// The backend comes first.
#include "mtp/decode/generate.hpp"
#include "support/batches.hpp"
#include "support/compare.hpp"
#include "support/latent_config.hpp"

namespace mtp::test::decode_latent_attention_cases {
namespace {

using tokens_type = std::vector<token_t>;

constexpr model_config short_config(model_config config) {
  config.max_position_embeddings = 60;
  return config;
}

template <model_config Config, class S>
void check_text(const draft_tree& tree) {
  CAPTURE(sizeof(S));
  cuda_context context;
  language_model<Config, cuda, S> model(context, seed{5});
  generator<Config, cuda, S> generator(context, model);
  tokens_type prompt;
  for (index_t i = 0; i < 29; ++i) {
    prompt.push_back(static_cast<token_t>((3 * i + i % 4) % Config.vocab_size));
  }
  for (const double temperature : {0.0, 0.8}) {
    generate_options<S, cuda> options;
    options.max_new_tokens = 12;
    options.log_probabilities = true;
    options.sampling = {.temperature = temperature, .seed = seed{7}};
    options.mode = decode_mode::plain;
    const generation<Config.prediction.depth> plain = generator.generate(prompt, options);
    REQUIRE(plain.tokens.size() == 12);
    options.mode = decode_mode::speculative;
    for (const draft_tree& shape : {draft_tree{}, tree}) {
      options.tree = shape;
      for (int round = 0; round < 2; ++round) {  // recorded, replayed
        const auto& text = generator.generate(prompt, options);
        CHECK(text.tokens == plain.tokens);
        CHECK(same_bits(text.log_probabilities, plain.log_probabilities));
      }
    }
  }
}

}  // namespace

TEST_CASE("drafts of sequential heads over latent attention give the text of plain decoding") {
  constexpr auto config = short_config(with_latents(tiny_config(head_kind::sequential, 2)));
  check_text<config, float>(draft_tree::of_widths({2, 1}));
  check_text<config, bf16>(draft_tree::of_widths({2, 1}));
}

TEST_CASE("drafts of parallel heads over latent attention give the text of plain decoding") {
  constexpr auto config = short_config(with_plain_queries(tiny_config(head_kind::parallel, 2)));
  check_text<config, bf16>(draft_tree::by_confidence(6, 3));
}

}  // namespace mtp::test::decode_latent_attention_cases
