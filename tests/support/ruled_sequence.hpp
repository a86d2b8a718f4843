// Sequences with a rule of sampling between guard zones, and rules for each option: for tests of
// operations that follow a rule.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "mtp/ops/sequence.hpp"
#include "support/backends.hpp"
#include "support/guard.hpp"
#include "support/random.hpp"
#include "support/reference/choose_tokens.hpp"

namespace mtp::test::choose_tokens {

using reference::rule_of_choice;
using token_list = std::vector<token_t>;

template <class Element>
std::vector<double> as_values(const std::vector<Element>& elements) {
  return {elements.begin(), elements.end()};
}

/// A sequence with its rule, between guard zones.
template <class B>
struct guarded_sequence {
  guarded<token_t, 1, B> tokens;
  guarded<index_t, 1, B> state;
  guarded<index_t, 1, B> integers;
  guarded<double, 1, B> reals;
  guarded<token_t, 1, B> stop_tokens;
  guarded<float, 1, B> bias;

  /// Of V tokens; `all` stand in memory, of which `count` are confirmed.
  guarded_sequence(const token_list& all, index_t count, const rule_of_choice& rule, index_t V)
      : tokens(dims<1>{static_cast<index_t>(all.size())}, as_values(all)),
        state(dims<1>{sequence_states}, std::vector<double>{static_cast<double>(count), 0}),
        integers(dims<1>{sampling_integers}),
        reals(dims<1>{sampling_reals},
              std::vector<double>{rule.temperature,
                                  rule.top_p,
                                  rule.min_p,
                                  rule.repetition_penalty,
                                  rule.frequency_penalty,
                                  rule.presence_penalty}),
        stop_tokens(dims<1>{V}),
        bias(dims<1>{V}) {
    std::vector<double> whole{static_cast<double>(static_cast<index_t>(rule.seed)),
                              static_cast<double>(rule.sequence),
                              static_cast<double>(rule.prompt_length),
                              static_cast<double>(rule.min_new_tokens),
                              static_cast<double>(rule.stop_tokens.size()),
                              rule.bias.empty() ? 0.0 : 1.0,
                              static_cast<double>(rule.top_k)};
    integers.set(whole);
    token_list stops = rule.stop_tokens;
    stops.resize(static_cast<std::size_t>(V), -7);  // not to be read
    stop_tokens.set(as_values(stops));
    std::vector<float> biases = rule.bias;
    biases.resize(static_cast<std::size_t>(V), std::numeric_limits<float>::quiet_NaN());
    bias.set(as_values(biases));
  }
  sequence_view<B> view() {
    return {tokens.view(),
            state.view(),
            {integers.view(), reals.view(), stop_tokens.view(), bias.view()}};
  }
  bool untouched() const {
    return tokens.untouched() && state.untouched() && integers.untouched() && reals.untouched() &&
           stop_tokens.untouched() && bias.untouched();
  }
};

/// Numbers of which many are equal, with an infinity here and there.
inline std::vector<double> rough_logits(index_t count, std::uint64_t stream) {
  std::vector<double> logits = normal(count, stream, 2);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] = std::round(logits[i] * 4) / 4;
    if (i % 23 == 5) {
      logits[i] = -std::numeric_limits<double>::infinity();
    }
  }
  return logits;
}

inline token_list tokens_below(index_t V, index_t count, std::uint64_t stream) {
  token_list tokens;
  for (const double x : uniform(count, stream, 0, static_cast<double>(V))) {
    tokens.push_back(static_cast<token_t>(std::floor(x)));
  }
  return tokens;
}

/// All options at once, no option, and a rule for each of them. The first stays where a test takes
/// some_of them.
inline std::vector<rule_of_choice> rules_for(index_t V) {
  std::vector<rule_of_choice> rules(14);
  rules[2].temperature = 0;
  rules[3].temperature = 0.3;
  rules[4].top_k = 1;
  rules[5].top_k = std::max<index_t>(1, V / 3);
  rules[6].top_p = 0.7;
  rules[7].top_p = 1e-9;
  rules[8].min_p = 0.2;
  rules[9].repetition_penalty = 1.7;
  rules[10].frequency_penalty = 0.4;
  rules[11].presence_penalty = 0.9;
  rules[12].bias.assign(static_cast<std::size_t>(V), 0.5f);
  for (std::size_t v = 0; v < rules[12].bias.size(); v += 3) {
    rules[12].bias[v] = v % 2 == 0 ? -1.5f : -std::numeric_limits<float>::infinity();
  }
  rules[13].min_new_tokens = 5;
  rules[13].stop_tokens = {0};
  if (V > 1) {
    rules[13].stop_tokens.push_back(static_cast<token_t>(V - 1));
  }
  rules[0] = {.seed = 77,
              .sequence = 3,
              .prompt_length = 0,
              .min_new_tokens = 4,
              .top_k = std::max<index_t>(1, V / 2),
              .temperature = 1.3,
              .top_p = 0.9,
              .min_p = 0.02,
              .repetition_penalty = 0.8,
              .frequency_penalty = -0.3,
              .presence_penalty = 0.2,
              .stop_tokens = {static_cast<token_t>(V / 2)},
              .bias = rules[12].bias};
  for (rule_of_choice& rule : rules) {
    rule.prompt_length = 9;
  }
  return rules;
}

template <class S>
double rounded(double x) {
  return static_cast<double>(static_cast<accumulate_t<S>>(x));
}

}  // namespace mtp::test::choose_tokens
