// Reference of ops/route.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

#include "mtp/ops/routing_rule.hpp"
#include "support/reference/array.hpp"

namespace mtp::test::reference {

inline array<2> route_scores(const array<2>& logits, scoring_function function) {
  array<2> scores = logits;
  for (index_t n = 0; n < logits.size(0); ++n) {
    double sum = 0, largest = -HUGE_VAL;
    for (index_t e = 0; e < logits.size(1); ++e) {
      largest = std::max(largest, logits(n, e));
    }
    for (index_t e = 0; e < logits.size(1); ++e) {
      sum += std::exp(logits(n, e) - largest);
    }
    for (index_t e = 0; e < logits.size(1); ++e) {
      scores(n, e) = function == scoring_function::sigmoid ? 1 / (1 + std::exp(-logits(n, e)))
                                                           : std::exp(logits(n, e) - largest) / sum;
    }
  }
  return scores;
}

/// The numbers of the best `count` of `values`, by sorting; equals in ascending order.
template <class Number>
std::vector<index_t> best_of(const std::vector<Number>& values, index_t count) {
  std::vector<index_t> order(values.size());
  std::iota(order.begin(), order.end(), index_t{0});
  std::stable_sort(order.begin(), order.end(), [&](index_t a, index_t b) {
    return values[static_cast<std::size_t>(a)] > values[static_cast<std::size_t>(b)];
  });
  order.resize(static_cast<std::size_t>(count));
  return order;
}

/// The experts of a row. Number is the type in which choices are compared: a choice is what a sum
/// was rounded to.
template <class Number>
std::vector<index_t> chosen_experts(const std::vector<Number>& scores,
                                    const std::vector<Number>& bias,
                                    index_t k,
                                    const routing_rule& rule) {
  const auto E = static_cast<index_t>(scores.size());
  std::vector<Number> choices = scores;
  for (std::size_t e = 0; e < choices.size(); ++e) {
    choices[e] = static_cast<Number>(choices[e] + bias[e]);
  }
  const index_t size = E / rule.n_group;
  std::vector<Number> groups;
  for (index_t g = 0; g < rule.n_group; ++g) {
    std::vector<Number> own(choices.begin() + g * size, choices.begin() + (g + 1) * size);
    std::sort(own.begin(), own.end());
    groups.push_back(size == 1 ? own[0]
                               : static_cast<Number>(own[own.size() - 1] + own[own.size() - 2]));
  }
  const auto kept = best_of(groups, rule.topk_group);
  std::vector<index_t> allowed;
  for (index_t e = 0; e < E; ++e) {
    if (std::find(kept.begin(), kept.end(), e / size) != kept.end()) {
      allowed.push_back(e);
    }
  }
  std::vector<Number> values;
  for (const index_t e : allowed) {
    values.push_back(choices[static_cast<std::size_t>(e)]);
  }
  std::vector<index_t> experts;
  for (const index_t i : best_of(values, k)) {
    experts.push_back(allowed[static_cast<std::size_t>(i)]);
  }
  return experts;
}

inline double sum_of_weights(const array<2>& scores,
                             const array<2>& experts,
                             index_t n,
                             const routing_rule& rule) {
  double sum = 1e-20;
  for (index_t j = 0; j < experts.size(1); ++j) {
    sum += scores(n, static_cast<index_t>(experts(n, j)));
  }
  return rule.norm_topk_prob ? sum : 1;
}

inline array<2> route_weights(const array<2>& scores,
                              const array<2>& experts,
                              const routing_rule& rule) {
  array<2> weights(experts.sizes);
  for (index_t n = 0; n < experts.size(0); ++n) {
    for (index_t j = 0; j < experts.size(1); ++j) {
      weights(n, j) = rule.routed_scaling_factor * scores(n, static_cast<index_t>(experts(n, j))) /
                      sum_of_weights(scores, experts, n, rule);
    }
  }
  return weights;
}

/// The loss that keeps the experts of sequences of T rows balanced.
inline double sequence_balance(const array<2>& scores,
                               const array<2>& experts,
                               index_t T,
                               double weight) {
  const index_t E = scores.size(1), k = experts.size(1);
  double loss = 0;
  for (index_t first = 0; first < scores.size(0); first += T) {
    for (index_t e = 0; e < E; ++e) {
      double count = 0, share = 0;
      for (index_t n = first; n < first + T; ++n) {
        double sum = 1e-20;
        for (index_t i = 0; i < E; ++i) {
          sum += scores(n, i);
        }
        share += scores(n, e) / sum / static_cast<double>(T);
        for (index_t j = 0; j < k; ++j) {
          count += experts(n, j) == static_cast<double>(e) ? 1 : 0;
        }
      }
      loss += weight * share * count * static_cast<double>(E) / static_cast<double>(k * T);
    }
  }
  return loss;
}

/// Its gradient, through the matrix of derivatives of all shares of a row by all scores. With
/// `minus` = 1 in place of -1, what bounds the roundings.
inline array<2> sequence_balance_backward(
    const array<2>& scores, const array<2>& experts, index_t T, double weight, double minus = -1) {
  const index_t E = scores.size(1), k = experts.size(1);
  array<2> dscores(scores.sizes);
  for (index_t n = 0; n < scores.size(0); ++n) {
    std::vector<double> fractions(static_cast<std::size_t>(E), 0.0);
    for (index_t m = n / T * T; m < (n / T + 1) * T; ++m) {
      for (index_t j = 0; j < k; ++j) {
        fractions[static_cast<std::size_t>(experts(m, j))] +=
            static_cast<double>(E) / static_cast<double>(k * T);
      }
    }
    double sum = 1e-20;
    for (index_t e = 0; e < E; ++e) {
      sum += scores(n, e);
    }
    for (index_t e = 0; e < E; ++e) {
      for (index_t i = 0; i < E; ++i) {
        dscores(n, e) += weight / static_cast<double>(T) * fractions[static_cast<std::size_t>(i)] *
                         ((i == e ? sum : 0) + minus * scores(n, i)) / (sum * sum);
      }
    }
  }
  return dscores;
}

/// dlogits, through the matrix of derivatives of all weights by all scores. With `minus` = 1 in
/// place of -1 and magnitudes, what bounds the roundings.
inline array<2> route_backward(const array<2>& dweights,
                               const array<2>& experts,
                               const array<2>& scores,
                               const array<2>& given,
                               const routing_rule& rule,
                               double minus = -1) {
  array<2> dlogits(scores.sizes);
  const index_t E = scores.size(1), k = experts.size(1);
  for (index_t n = 0; n < scores.size(0); ++n) {
    const double sum = sum_of_weights(scores, experts, n, rule);
    const auto first = given.elements.begin() + n * E;
    std::vector<double> dscores(first, first + E);
    for (index_t j = 0; j < k; ++j) {
      for (index_t i = 0; i < k; ++i) {
        const double own = scores(n, static_cast<index_t>(experts(n, j)));
        const double by_sum = rule.norm_topk_prob ? minus * own / (sum * sum) : 0;
        dscores[static_cast<std::size_t>(experts(n, i))] +=
            rule.routed_scaling_factor * dweights(n, j) * ((i == j ? 1 / sum : 0) + by_sum);
      }
    }
    for (index_t e = 0; e < E; ++e) {
      const double s = scores(n, e);
      if (rule.scoring_func == scoring_function::sigmoid) {
        dlogits(n, e) = dscores[static_cast<std::size_t>(e)] * s * (1 - s);
        continue;
      }
      for (index_t i = 0; i < E; ++i) {
        dlogits(n, e) +=
            dscores[static_cast<std::size_t>(i)] * scores(n, i) * ((i == e ? 1 : 0) + minus * s);
      }
    }
  }
  return dlogits;
}

}  // namespace mtp::test::reference
