// Reference of ops/choose_tokens.hpp: a row is sorted, sums are taken one by one, and noise is
// computed in extended precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "mtp/core/random.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::test::reference {

/// What a rule says, with the names of choose_tokens.
struct rule_of_choice {
  std::uint64_t seed = 0;
  std::uint32_t sequence = 0;
  index_t prompt_length = 0, min_new_tokens = 0, top_k = 0;
  double temperature = 1, top_p = 1, min_p = 0;
  double repetition_penalty = 1, frequency_penalty = 0, presence_penalty = 0;
  std::vector<token_t> stop_tokens{};
  std::vector<float> bias{};  // [V], or none
};

/// g of choose_tokens.
inline double gumbel(const rule_of_choice& rule, index_t position, token_t token) {
  const auto at = static_cast<std::uint64_t>(position);
  const auto words = philox::block(
      {{static_cast<std::uint32_t>(token),
        static_cast<std::uint32_t>(0x47 + (at >> 32) * 256),
        static_cast<std::uint32_t>(at),
        rule.sequence}},
      {{static_cast<std::uint32_t>(rule.seed), static_cast<std::uint32_t>(rule.seed >> 32)}});
  const long double k = static_cast<long double>(words.words[0]) +
                        4294967296.0L * static_cast<long double>(words.words[1]);
  const long double u =
      std::min((k + 0.5L) / 18446744073709551616.0L, 1 - 1.0L / 9007199254740992.0L);
  return static_cast<double>(-std::log(-std::log1p(-u)));
}

/// x of choose_tokens. `round` gives a number the precision that it is kept in.
template <class Round>
std::vector<double> adjusted(const std::vector<double>& logits,
                             const std::vector<token_t>& in_front,
                             const rule_of_choice& rule,
                             const Round& round) {
  const auto position = static_cast<index_t>(in_front.size());
  std::vector<double> x;
  for (std::size_t v = 0; v < logits.size(); ++v) {
    const auto token = static_cast<token_t>(v);
    double value = logits[v];
    if (!rule.bias.empty()) {
      value = std::isinf(rule.bias[v]) ? NAN : round(value + static_cast<double>(rule.bias[v]));
    }
    const bool stops = std::count(rule.stop_tokens.begin(), rule.stop_tokens.end(), token) > 0;
    if (stops && position - rule.prompt_length < rule.min_new_tokens) {
      value = NAN;
    }
    const auto generated =
        in_front.begin() + std::min<std::ptrdiff_t>(rule.prompt_length, position);
    const auto count = static_cast<double>(std::count(generated, in_front.end(), token));
    if (std::count(in_front.begin(), in_front.end(), token) > 0) {
      value = value > 0 ? value / rule.repetition_penalty : value * rule.repetition_penalty;
      // The product is exact in extended precision, so that the difference is rounded once.
      value = static_cast<double>(static_cast<long double>(value) -
                                  static_cast<long double>(rule.frequency_penalty) * count);
      value = round(value - (count > 0 ? rule.presence_penalty : 0));
    }
    x.push_back(value);
  }
  return x;
}

/// z of choose_tokens, for the tokens in falling order of x; NaN is left out.
inline std::vector<token_t> by_falling(const std::vector<double>& x) {
  std::vector<token_t> order;
  for (std::size_t v = 0; v < x.size(); ++v) {
    if (!std::isnan(x[v])) {
      order.push_back(static_cast<token_t>(v));
    }
  }
  std::stable_sort(order.begin(), order.end(), [&](token_t a, token_t b) {
    return x[static_cast<std::size_t>(a)] > x[static_cast<std::size_t>(b)];
  });
  return order;
}

/// w of choose_tokens in units of 2^-40, by token; 0 for those that are not kept.
inline std::vector<std::uint64_t> kept_weights(const std::vector<double>& x,
                                               const rule_of_choice& rule) {
  std::vector<token_t> order = by_falling(x);
  std::vector<std::uint64_t> weights(x.size(), 0);
  if (rule.top_k > 0 && rule.top_k < static_cast<index_t>(order.size())) {
    order.resize(static_cast<std::size_t>(rule.top_k));
  }
  std::uint64_t sum = 0;
  for (const token_t v : order) {
    const double most = x[static_cast<std::size_t>(order[0])], own = x[static_cast<std::size_t>(v)];
    const double z = own == most ? 0 : (own - most) / rule.temperature;
    weights[static_cast<std::size_t>(v)] =
        static_cast<std::uint64_t>(std::llround(std::exp(z) * 1099511627776.0));
    sum += weights[static_cast<std::size_t>(v)];
  }
  const auto wanted =
      static_cast<std::uint64_t>(std::max(1.0, std::ceil(rule.top_p * static_cast<double>(sum))));
  std::uint64_t so_far = 0;
  for (const token_t v : order) {
    std::uint64_t& own = weights[static_cast<std::size_t>(v)];
    const bool behind = rule.top_p < 1 && so_far >= wanted;
    so_far += own;
    if (behind || static_cast<double>(own) < std::ceil(rule.min_p * 1099511627776.0)) {
      own = 0;
    }
  }
  return weights;
}

/// The token of choose_tokens at position in_front.size().
template <class Round>
token_t chosen(const std::vector<double>& logits,
               const std::vector<token_t>& in_front,
               const rule_of_choice& rule,
               const Round& round) {
  const std::vector<double> x = adjusted(logits, in_front, rule, round);
  const std::vector<token_t> order = by_falling(x);
  if (order.empty() || rule.temperature == 0) {
    return order.empty() ? -1 : order[0];
  }
  const std::vector<std::uint64_t> weights = kept_weights(x, rule);
  const double most = x[static_cast<std::size_t>(order[0])];
  token_t best = -1;
  double best_score = 0;
  for (std::size_t v = 0; v < x.size(); ++v) {
    const bool is_kept = weights[v] > 0 || (rule.top_k == 0 && rule.top_p == 1 && rule.min_p == 0);
    if (is_kept && !std::isnan(x[v])) {
      const double score =
          (x[v] == most ? 0 : (x[v] - most) / rule.temperature) +
          gumbel(rule, static_cast<index_t>(in_front.size()), static_cast<token_t>(v));
      if (best < 0 || score > best_score) {
        best = static_cast<token_t>(v);
        best_score = score;
      }
    }
  }
  return best;
}

/// log softmax(logits)[token]
inline double log_probability(const std::vector<double>& logits, token_t token) {
  const long double most = *std::max_element(logits.begin(), logits.end());
  long double sum = 0;
  for (const double logit : logits) {
    sum += std::exp(static_cast<long double>(logit) - most);
  }
  return static_cast<double>(static_cast<long double>(logits[static_cast<std::size_t>(token)]) -
                             most - std::log(sum));
}

/// A bound that a sum of squared deviations, each divided by its expectation, exceeds once in a
/// million times, with `freedom` degrees of freedom: k + 2 sqrt(k t) + 2 t with exp(-t) = 1e-6
/// (Laurent and Massart 2000, lemma 1).
inline double chi_square_bound(double freedom) {
  const double t = std::log(1e6);
  return freedom + 2 * std::sqrt(freedom * t) + 2 * t;
}

/// That sum, over outcomes that are expected at least five times; the others are one outcome.
inline double chi_square(const std::vector<double>& counts,
                         const std::vector<double>& probabilities,
                         double* freedom) {
  const double trials = std::accumulate(counts.begin(), counts.end(), 0.0);
  double sum = 0, rare = 0, rare_expected = 0;
  *freedom = -1;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double expected = trials * probabilities[i];
    if (expected < 5) {
      rare += counts[i];
      rare_expected += expected;
    } else {
      sum += (counts[i] - expected) * (counts[i] - expected) / expected;
      *freedom += 1;
    }
  }
  if (rare_expected > 0 || rare > 0) {
    const double expected = std::max(rare_expected, 1e-3);
    sum += (rare - expected) * (rare - expected) / expected;
    *freedom += 1;
  }
  return sum;
}

}  // namespace mtp::test::reference
