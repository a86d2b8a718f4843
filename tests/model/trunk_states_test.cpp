// The trunk by itself against the logits of its model.
#include "mtp/model/trunk_states.hpp"

#include <cstddef>
#include <doctest/doctest.h>
#include <vector>

#include "mtp/ops/linear.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "support/model.hpp"

namespace mtp::test::model_trunk_states_cases {

namespace {

constexpr auto config = tiny_config(head_kind::none, 0);
constexpr index_t B = 3, T = 7;

}  // namespace

TEST_CASE("norm and output matrix behind hidden states give the model's logits") {
  subject<config, double> tested(2, B, T);
  const token_batch batch = random_batch(config, B, T, 1);
  std::vector<token_t> tokens;  // [B, T]
  for (index_t b = 0; b < B; ++b) {
    const auto row = batch.tokens.begin() + b * batch.row();
    tokens.insert(tokens.end(), row, row + T);
  }
  trunk_states<config, cpu, double> states(tested.context, B, T);
  const auto stream = states(tested.context, tested.model, tokens, T);
  tensor<double, dims<2>, cpu> normed(dims<2>{B * T, config.hidden_size});
  tensor<double, dims<1>, cpu> inverse(dims<1>{B * T});
  tensor<double, dims<2>, cpu> logits(dims<2>{B * T, config.vocab_size});
  const auto& at = tested.model.trunk_layout();
  rms_norm_forward(tested.context,
                   normed.view(),
                   inverse.view(),
                   stream,
                   tested.model.values().vector(at.norm),
                   config.rms_norm_eps);
  linear_forward(
      tested.context, logits.view(), normed.view(), tested.model.values().matrix(at.output));
  CHECK(same_bits(elements(logits.view()), tested.logits(batch)[0]));

  // A sequence has the same states by itself.
  const auto together = elements(stream);
  const index_t count = T * config.hidden_size;
  for (index_t b = 0; b < B; ++b) {
    const std::vector<token_t> own(tokens.begin() + b * T, tokens.begin() + (b + 1) * T);
    const auto alone = elements(states(tested.context, tested.model, own, T));
    CHECK(same_bits(
        alone,
        std::vector<double>(together.begin() + b * count, together.begin() + (b + 1) * count)));
  }
}

TEST_CASE("hidden states of what does not fit are refused") {
  subject<config, double> tested(1, 1, T);
  trunk_states<config, cpu, double> states(tested.context, 2, T);
  const auto refused = [&](std::vector<token_t> tokens, index_t length, const char* words) {
    CHECK_THROWS_WITH_AS(
        states(tested.context, tested.model, tokens, length), doctest::Contains(words), error);
  };
  refused(std::vector<token_t>(3 * T, 0), T, "14 in all, got 21 tokens in sequences of 7");
  refused(std::vector<token_t>(8, 0), 8, "at most 7 tokens");
  refused(std::vector<token_t>(8, 0), 7, "got 8 tokens");
  refused({}, 7, "got 0 tokens");
  refused({0, 19}, 2, "token 19 does not lie in [0, 19)");
  refused({0, -1}, 2, "token -1");
  const auto made = [&](index_t batch, index_t length) {
    trunk_states<config, cpu, double>(tested.context, batch, length);
  };
  CHECK_THROWS_WITH_AS(made(0, 5), doctest::Contains("expected a positive batch"), error);
  CHECK_THROWS_WITH_AS(made(1, 49), doctest::Contains("a length in [1, 48]"), error);
}

}  // namespace mtp::test::model_trunk_states_cases
