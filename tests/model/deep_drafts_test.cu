// Drafts of more tokens than one kernel for few rows takes at once: their text is the plain one,
// bit by bit.
#include <doctest/doctest.h>

#include <vector>

#include "support/cuda_cases.hpp"
// The backend comes first.
#include "model/agreement.hpp"
#include "support/compare.hpp"

namespace mtp::test::model_deep_drafts_cases {
namespace {

template <int Depth>
constexpr model_config deep_config() {
  model_config config = tiny_config(head_kind::independent, Depth);
  config.hidden_size = 32;
  config.attention.head_dim = 16;  // a width that tensor cores take
  config.feed_forward.intermediate_size = 40;
  config.max_position_embeddings = 160;
  return config;
}

template <class S, int Depth>
void check_text() {
  CAPTURE(sizeof(S));
  CAPTURE(Depth);
  constexpr model_config config = deep_config<Depth>();
  cuda_context context;
  language_model<config, cuda, S> model(context, seed{5});
  generator<config, cuda, S> generator(context, model);
  const std::vector<token_t> prompt{1, 7, 3, 3, 12};
  generate_options<S, cuda> options;
  options.max_new_tokens = 30;
  options.mode = decode_mode::plain;
  const auto plain = detail::write(generator, prompt, options);
  options.mode = decode_mode::speculative;
  const auto speculative = detail::write(generator, prompt, options);
  REQUIRE(plain.tokens.size() == 30);
  CHECK(same_bits(speculative.tokens, plain.tokens));
  CHECK(same_bits(speculative.logits, plain.logits));
}

}  // namespace

TEST_CASE("text of deep drafts is that of plain decoding") {
  check_text<float, 17>();
  check_text<bf16, 17>();
  check_text<bf16, 33>();
}

}  // namespace mtp::test::model_deep_drafts_cases
