// The router of a mixture of experts on the CPU. Contracts: ops/route.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/core/arena.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/route.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_route_ops {
  template <scalar S>
  static void route(cpu_context& context,
                    matrix_view<index_t, cpu> experts,
                    matrix_view<accumulate_t<S>, cpu> weights,
                    matrix_view<accumulate_t<S>, cpu> scores,
                    matrix_view<const accumulate_t<S>, cpu> logits,
                    vector_view<const S, cpu> bias,
                    const routing_rule& rule) {
    using A = accumulate_t<S>;
    const index_t E = logits.extent(1), k = experts.extent(1);
    const index_t piece = round_up(E + rule.n_group, arena_alignment);  // no shared cache lines
    const arena::scope scope(context.workspace());
    A* const scratch = context.workspace().template take<A>(context.threads() * piece);
    context.parallel_ranges(
        logits.extent(0), task_rows(E * (k + 8)), [&](index_t begin, index_t end, int thread) {
          A* const choices = scratch + thread * piece;  // [E]
          for (index_t n = begin; n < end; ++n) {
            A* const score = scores.data() + n * scores.stride(0);
            set_scores(score, logits.data() + n * logits.stride(0), E, rule.scoring_func);
            for (index_t e = 0; e < E; ++e) {
              choices[e] = bias.data() != nullptr ? score[e] + widen(bias(e)) : score[e];
            }
            index_t* const chosen = experts.data() + n * experts.stride(0);
            A* const weight = weights.data() + n * weights.stride(0);
            if (choose(chosen, choices, choices + E, E, k, rule)) {
              weigh(weight, score, chosen, k, rule);
            } else {
              std::fill_n(weight, k, std::numeric_limits<A>::quiet_NaN());
            }
          }
        });
  }

  template <scalar S>
  static void route_backward(cpu_context& context,
                             matrix_view<S, cpu> dlogits,
                             matrix_view<const accumulate_t<S>, cpu> dweights,
                             matrix_view<const index_t, cpu> experts,
                             matrix_view<const accumulate_t<S>, cpu> scores,
                             matrix_view<const accumulate_t<S>, cpu> dscores,
                             const routing_rule& rule) {
    using A = accumulate_t<S>;
    const index_t E = scores.extent(1), k = experts.extent(1);
    const auto scale = static_cast<A>(rule.routed_scaling_factor);
    const bool softmax = rule.scoring_func == scoring_function::softmax;
    context.parallel_ranges(
        scores.extent(0), task_rows(E + 4 * k), [&](index_t begin, index_t end, int) {
          for (index_t n = begin; n < end; ++n) {
            const A* const score = scores.data() + n * scores.stride(0);
            const A* const dweight = dweights.data() + n * dweights.stride(0);
            const index_t* const chosen = experts.data() + n * experts.stride(0);
            S* const to = dlogits.data() + n * dlogits.stride(0);
            A sum{1}, pull{0};
            if (rule.norm_topk_prob) {
              sum = sum_of_weights(score, chosen, k);
              for (index_t j = 0; j < k; ++j) {
                pull += dweight[j] * (score[chosen[j]] / sum);
              }
            }
            const auto own = [&](index_t j) { return scale * ((dweight[j] - pull) / sum); };
            const auto given = [&](index_t e) {
              return dscores.data() != nullptr ? dscores(n, e) : A{0};
            };
            A drift{0};  // of all logits, which softmax couples
            for (index_t e = 0; softmax && e < E; ++e) {
              drift += given(e) * score[e];
            }
            for (index_t j = 0; softmax && j < k; ++j) {
              drift += own(j) * score[chosen[j]];
            }
            const auto through = [&](index_t e, A dscore) {
              const A s = score[e];
              return narrow<S>(softmax ? s * (dscore - drift) : dscore * (s * (1 - s)));
            };
            for (index_t e = 0; e < E; ++e) {
              to[e] = through(e, given(e));
            }
            for (index_t j = 0; j < k; ++j) {
              to[chosen[j]] = through(chosen[j], given(chosen[j]) + own(j));
            }
          }
        });
  }

  template <real A>
  static void sequence_balance_backward(cpu_context& context,
                                        matrix_view<A, cpu> dscores,
                                        vector_view<double, cpu> values,
                                        matrix_view<const A, cpu> scores,
                                        matrix_view<const index_t, cpu> experts,
                                        index_t T,
                                        double weight) {
    const double share = weight / static_cast<double>(T);
    const index_t E = scores.extent(1), k = experts.extent(1);
    const index_t piece = round_up(E, arena_alignment);  // no shared cache lines
    const arena::scope scope(context.workspace());
    A* const scratch = context.workspace().template take<A>(context.threads() * piece);
    context.parallel(scores.extent(0) / T, [&](index_t sequence, int thread) {
      A* const shares = scratch + thread * piece;  // f of each expert
      std::fill_n(shares, E, A{0});
      for (index_t n = sequence * T; n < (sequence + 1) * T; ++n) {
        for (index_t j = 0; j < k; ++j) {
          shares[experts(n, j)] += 1;
        }
      }
      const A unit = static_cast<A>(E) / static_cast<A>(k * T);
      for (index_t e = 0; e < E; ++e) {
        shares[e] *= unit;
      }
      for (index_t n = sequence * T; n < (sequence + 1) * T; ++n) {
        const A* const score = scores.data() + n * scores.stride(0);
        A sum{0}, mean{0};
        for (index_t e = 0; e < E; ++e) {
          sum += score[e];
          mean += shares[e] * score[e];
        }
        sum += static_cast<A>(mtp::detail::smallest_sum_of_weights);
        mean /= sum;
        if (values.data() != nullptr) {
          values(n) += share * static_cast<double>(mean);
        }
        const A factor = static_cast<A>(share) / sum;
        for (index_t e = 0; e < E; ++e) {
          dscores(n, e) = factor * (shares[e] - mean);
        }
      }
    });
  }

  /// The most bytes of workspace that these operations need for E experts.
  template <scalar S>
  static constexpr index_t route_workspace(index_t E, index_t threads) {
    // n_group is at most E.
    return arena_bytes(threads * round_up(2 * E, arena_alignment), sizeof(accumulate_t<S>));
  }

 private:
  template <real A>
  static void set_scores(A* scores, const A* logits, index_t E, scoring_function function) {
    if (function == scoring_function::sigmoid) {
      for (index_t e = 0; e < E; ++e) {
        scores[e] = 1 / (1 + std::exp(-logits[e]));
      }
      return;
    }
    A largest = -std::numeric_limits<A>::infinity(), sum{0};
    for (index_t e = 0; e < E; ++e) {
      largest = logits[e] > largest ? logits[e] : largest;
    }
    for (index_t e = 0; e < E; ++e) {
      scores[e] = std::exp(logits[e] - largest);
      sum += scores[e];
    }
    for (index_t e = 0; e < E; ++e) {
      scores[e] /= sum;
    }
  }

  /// The best k of the choices of the best groups; a choice or a group that is taken, or that no
  /// longer counts, becomes NaN. False where one is NaN from the beginning.
  template <real A>
  static bool choose(index_t* experts,
                     A* choices,  // [E]
                     A* groups,   // [n_group]
                     index_t E,
                     index_t k,
                     const routing_rule& rule) {
    constexpr A taken = std::numeric_limits<A>::quiet_NaN();
    if (std::any_of(choices, choices + E, [](A choice) { return std::isnan(choice); })) {
      return first_experts(experts, k);
    }
    if (rule.topk_group < rule.n_group) {
      const index_t size = E / rule.n_group;
      for (index_t g = 0; g < rule.n_group; ++g) {
        groups[g] = group_score(choices + g * size, size);
        if (std::isnan(groups[g])) {  // of infinities
          return first_experts(experts, k);
        }
      }
      for (index_t i = 0; i < rule.topk_group; ++i) {
        groups[mtp::detail::largest_number(groups, rule.n_group)] = taken;
      }
      for (index_t g = 0; g < rule.n_group; ++g) {
        if (!std::isnan(groups[g])) {
          std::fill_n(choices + g * size, size, taken);
        }
      }
    }
    for (index_t j = 0; j < k; ++j) {
      experts[j] = mtp::detail::largest_number(choices, E);
      choices[experts[j]] = taken;
    }
    return true;
  }

  static bool first_experts(index_t* experts, index_t k) {
    for (index_t j = 0; j < k; ++j) {
      experts[j] = j;
    }
    return false;
  }

  /// The sum of the two best, or the only one.
  template <real A>
  static A group_score(const A* choices, index_t size) {
    const index_t best = mtp::detail::largest_number(choices, size);
    if (size == 1) {
      return choices[0];
    }
    A second = -std::numeric_limits<A>::infinity();
    for (index_t e = 0; e < size; ++e) {
      second = e != best && choices[e] > second ? choices[e] : second;
    }
    return choices[best] + second;
  }

  template <real A>
  static A sum_of_weights(const A* scores, const index_t* experts, index_t k) {
    A sum{0};
    for (index_t j = 0; j < k; ++j) {
      sum += scores[experts[j]];
    }
    return sum + static_cast<A>(mtp::detail::smallest_sum_of_weights);
  }

  template <real A>
  static void weigh(
      A* weights, const A* scores, const index_t* experts, index_t k, const routing_rule& rule) {
    const A sum = rule.norm_topk_prob ? sum_of_weights(scores, experts, k) : A{1};
    for (index_t j = 0; j < k; ++j) {
      weights[j] = scores[experts[j]] / sum * static_cast<A>(rule.routed_scaling_factor);
    }
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
