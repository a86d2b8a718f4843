#include "mtp/decode/sampling_options.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <span>
#include <vector>

namespace mtp::test::decode_sampling_options_cases {

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

bool accepted(const sampling_options& options) {
  try {
    mtp::detail::check_sampling(options, 10);
    return true;
  } catch (const error&) {
    return false;
  }
}

}  // namespace

TEST_CASE("options of sampling are accepted within their bounds only") {
  CHECK(accepted({}));
  CHECK(accepted({.temperature = 2, .top_k = 3, .top_p = 1, .min_p = 1}));
  CHECK(!accepted({.temperature = -1}));
  CHECK(!accepted({.temperature = nan}));
  CHECK(!accepted({.top_k = -1}));
  CHECK(!accepted({.top_p = 0}));
  CHECK(!accepted({.top_p = nan}));
  CHECK(!accepted({.min_p = 1.5}));
  CHECK(!accepted({.repetition_penalty = 0}));
  CHECK(accepted({.frequency_penalty = -2, .presence_penalty = -2}));
  CHECK(!accepted({.frequency_penalty = nan}));
  CHECK(!accepted({.presence_penalty = nan}));
  CHECK(accepted({.logit_bias = {{9, -infinity}}}));
  CHECK(!accepted({.logit_bias = {{10, 1}}}));
  CHECK(!accepted({.logit_bias = {{9, infinity}}}));
  const logit_mask nothing = [](std::span<const token_t>, std::span<float>) {};
  CHECK(accepted({.mask = nothing}));
  CHECK(accepted({.verification = draft_verification::rejection}));
  CHECK(!accepted({.mask = nothing, .verification = draft_verification::rejection}));
  CHECK_THROWS_WITH_AS(mtp::detail::check_sampling({.top_p = 1.5}, 10),
                       "generate: expected top_p in (0, 1], got 1.5",
                       error);
}

TEST_CASE("a rule is needed where something else than the largest logit may be chosen") {
  using mtp::detail::needs_rule;
  CHECK(!needs_rule({}, false));
  CHECK(!needs_rule({.top_k = 3, .top_p = 0.5, .min_p = 0.5}, false));  // the largest stays
  CHECK(needs_rule({}, true));
  CHECK(needs_rule({.temperature = 0.1}, false));
  CHECK(needs_rule({.repetition_penalty = 1.1}, false));
  CHECK(needs_rule({.frequency_penalty = 0.1}, false));
  CHECK(needs_rule({.presence_penalty = 0.1}, false));
  CHECK(needs_rule({.logit_bias = {{1, 0}}}, false));
  CHECK(needs_rule({.mask = [](std::span<const token_t>, std::span<float>) {}}, false));
}

TEST_CASE("a rule has each stop token once, the sum of the biases, and nothing of the last call") {
  mtp::detail::host_sampling_rule rule(4);
  rule.set({.temperature = 0.5,
            .top_k = 2,
            .logit_bias = {{1, 1.5f}, {3, 2}, {1, 0.5f}},
            .seed = seed{7},
            .sequence = 8},
           std::vector<token_t>{3, 0, 3},
           5,
           6);
  CHECK(rule.stop_tokens == std::vector<token_t>{0, 3});
  CHECK(rule.bias == std::vector<float>{0, 2, 0, 2});
  CHECK(rule.integers[sampling_seed] == 7);
  CHECK(rule.integers[sampling_sequence] == 8);
  CHECK(rule.integers[sampling_prompt_length] == 5);
  CHECK(rule.integers[sampling_min_new_tokens] == 6);
  CHECK(rule.integers[sampling_stop_count] == 2);
  CHECK(rule.integers[sampling_has_bias] == 1);
  CHECK(rule.integers[sampling_top_k] == 2);
  CHECK(rule.reals[sampling_temperature] == 0.5);
  rule.set({}, {}, 1, 0);
  CHECK(rule.stop_tokens.empty());
  CHECK(rule.bias == std::vector<float>(4));
  CHECK(rule.integers[sampling_has_bias] == 0);
  CHECK(rule.reals[sampling_repetition_penalty] == 1);
}

}  // namespace mtp::test::decode_sampling_options_cases
