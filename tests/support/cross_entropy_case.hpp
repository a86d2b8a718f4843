// Calls of linear_cross_entropy and of its form for several ranks, and what the reference says of
// them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <vector>

#include "mtp/ops/linear_cross_entropy.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/linear_cross_entropy.hpp"
#include "support/tolerance.hpp"
#include "support/weights.hpp"

namespace mtp::test::linear_cross_entropy_tests {

using reference::array;
using reference::array_of;
using reference::magnitude;
using reference::target_list;

struct loss_sizes {
  index_t R, C, V, J;
};

// Around the widths of vectors, packs and warps, with duplicates among targets, none, and more than
// a block has threads.
inline const loss_sizes sizes[] = {{1, 1, 1, 1},
                                   {3, 2, 1, 2},
                                   {5, 7, 2, 1},
                                   {4, 16, 15, 3},
                                   {7, 17, 16, 1},
                                   {6, 5, 17, 2},
                                   {9, 33, 19, 4},
                                   {13, 8, 31, 1},
                                   {2, 31, 32, 1},
                                   {11, 3, 33, 70},
                                   {14, 65, 100, 2},
                                   {20, 9, 1000, 2},
                                   {0, 3, 5, 1},
                                   {3, 4, 6, 0},
                                   {2, 3, 5003, 1}};

/// More rows than a chunk has, and rows longer than a block can keep.
template <class B>
std::vector<loss_sizes> large_sizes() {
  if constexpr (backend_traits<B>::is_host_memory) {
    return {{1030, 3, 7, 1}, {53, 2, 20011, 1}};
  } else if (testing<B>::at_full_size) {
    return {{8195, 2, 3, 1}, {1, 1, 120003, 1}};
  } else {
    return {};
  }
}

/// Targets of which every fourth is missing, and all of every fifth row.
inline target_list random_targets(const loss_sizes& s) {
  const random_stream random(mtp::seed{11}, 2);
  target_list targets;
  for (index_t i = 0; i < s.R * s.J; ++i) {
    const auto position = static_cast<std::uint64_t>(i);
    const bool missing = random.below(2 * position, 4) == 0 || i / s.J % 5 == 3;
    targets.push_back(missing ? -1 - static_cast<token_t>(i % 3)
                              : static_cast<token_t>(random.below(
                                    2 * position + 1, static_cast<std::uint64_t>(s.V))));
  }
  return targets;
}

/// Inputs: random numbers, or small whole numbers, whose products are exact in every type.
enum class inputs { small, large, whole };

inline std::vector<double> numbers(index_t count, std::uint64_t stream, inputs kind) {
  std::vector<double> result = normal(count,
                                      stream,
                                      kind == inputs::small   ? 0.3
                                      : kind == inputs::large ? 8
                                                              : 1);
  if (kind == inputs::whole) {
    for (double& number : result) {
      number = std::round(number);
    }
  }
  return result;
}

/// Inputs and outputs of one call.
template <class S, class B>
struct loss_case {
  using A = accumulate_t<S>;

  loss_sizes size;
  guarded<token_t, 2, B> targets;
  guarded<S, 2, B> hidden, dhidden;
  guarded<A, 2, B> weights, losses;
  guarded_weight<S, B> w;
  guarded_weight<A, B> dw;
  guarded<token_t, 1, B> predicted;

  explicit loss_case(const loss_sizes& s, inputs kind = inputs::small)
      : size(s),
        targets(dims<2>{s.R, s.J}, strides(1, s.R + 1)),
        hidden(dims<2>{s.R, s.C}, strides(s.C + 3, 1), numbers(s.R * s.C, 1, kind)),
        dhidden(dims<2>{s.R, s.C}, strides(s.C + 3, 1)),
        weights(dims<2>{s.R, s.J}, strides(s.J + 1, 1), uniform(s.R * s.J, 2, 0, 1)),
        losses(dims<2>{s.R, s.J}, strides(s.J + 2, 1)),
        w(s.V, s.C, weights_of(s, kind)),
        dw(s.V, s.C, uniform(s.V * s.C, 4)),
        predicted(dims<1>{s.R}) {
    set_targets(random_targets(s));
  }

  static std::vector<double> weights_of(const loss_sizes& s, inputs kind) {
    return kind == inputs::whole ? numbers(s.V * s.C, 3, kind) : normal(s.V * s.C, 3);
  }
  void set_targets(const target_list& list) { targets.set({list.begin(), list.end()}); }
  target_list target_elements() const { return elements(targets.view()); }

  void run_in_place(context<B>& context) {
    linear_cross_entropy(context,
                         losses.view(),
                         predicted.view(),
                         hidden.view(),
                         dw.view(),
                         hidden.view(),
                         w.view(),
                         targets.view(),
                         weights.view());
  }
  void run(context<B>& context) {
    linear_cross_entropy(context,
                         losses.view(),
                         predicted.view(),
                         dhidden.view(),
                         dw.view(),
                         hidden.view(),
                         w.view(),
                         targets.view(),
                         weights.view());
  }
  void run_forward(context<B>& context) {
    linear_cross_entropy_forward(
        context, losses.view(), predicted.view(), hidden.view(), w.view(), targets.view());
  }
  std::vector<double> results() const {
    return join(join(values(losses.view()), values(dhidden.view())),
                join(dw.rows().elements, values(predicted.view())));
  }
};

/// What the reference says of a case, and how far an implementation may be off.
template <class S, class B>
struct expectation {
  using A = accumulate_t<S>;

  array<2> z, losses, dhidden, dw, loss_bound, dhidden_bound, dw_bound;
  array<2> dhidden_terms;            // sums of magnitudes
  std::vector<double> logit_errors;  // [R]

  /// Of sums that ranks have in `parts` parts.
  expectation(const loss_case<S, B>& a, inputs kind, int parts = 1)
      : z({0, 0}),
        losses(z),
        dhidden(z),
        dw(z),
        loss_bound(z),
        dhidden_bound(z),
        dw_bound(z),
        dhidden_terms(z) {
    const double u = unit_roundoff<A>;
    const array<2> hidden = array_of(a.hidden.view()), w = a.w.rows(), before = a.dw.rows();
    const array<2> weights = array_of(a.weights.view());
    const target_list targets = a.target_elements();
    const index_t R = a.size.R, V = a.size.V, J = a.size.J;
    z = reference::linear_forward(hidden, w);
    losses = reference::cross_entropy(z, targets, J);
    const array<2> dz = reference::cross_entropy_backward(z, targets, weights);
    const array<2> z_terms = reference::linear_forward(magnitude(hidden), magnitude(w));

    // A logit is off by at most its sum's error, and once more where it is stored in bf16 or the
    // maximum is subtracted. A probability is then off by a factor, and a loss by the sum of the
    // errors of its terms. A sum that meets a new maximum is scaled: the error of another
    // exponential.
    const auto terms = static_cast<double>(V);
    const double steps = sum_is_scaled ? scalings(V) + parts - 1 : 0;
    loss_bound = array<2>(losses.sizes);
    array<2> dz_bound(z.sizes), dz_terms(z.sizes);
    for (index_t r = 0; r < R; ++r) {
      double logit_error = 0, largest = 0, total = 0;
      for (index_t v = 0; v < V; ++v) {
        if (kind != inputs::whole) {  // those are exact
          const double error = dot_bound(a.size.C, u, z_terms(r, v));
          logit_error =
              std::max(logit_error, stores_bf16 ? stored_bound<bf16>(z(r, v), error) : error);
        }
        largest = std::max(largest, std::abs(z(r, v)));
      }
      logit_errors.push_back(logit_error);
      // The difference rounds once, and twice more as the exponent of a power of 2.
      const double subtraction = (stores_bf16 ? 6 : 2) * u * (largest + logit_error);
      logit_error += subtraction * (1 + steps);
      const double sum_error = gamma(terms + 12 + 6 * steps, u);
      const double probability_error = std::expm1(2 * logit_error) + sum_error;
      const double normalizer = reference::log_sum_exp(z, r);
      for (index_t j = 0; j < J; ++j) {
        const token_t target = targets[static_cast<std::size_t>(r * J + j)];
        if (target >= 0) {
          loss_bound(r, j) = 2 * logit_error + sum_error +
                             gamma(4, u) * (2 * largest + std::abs(normalizer) + std::log(terms));
          total += weights(r, j);
          dz_terms(r, target) += weights(r, j);
          dz_bound(r, target) += gamma(static_cast<double>(J) + 2, u) * weights(r, j);
        }
      }
      for (index_t v = 0; v < V; ++v) {
        const double p = total * std::exp(z(r, v) - normalizer);
        dz_terms(r, v) += p;
        dz_bound(r, v) += p * (probability_error + gamma(static_cast<double>(2 * J) + 4, u)) +
                          4 * total * static_cast<double>(std::numeric_limits<A>::min());
        if (rounds_gradients) {
          dz_bound(r, v) = stored_bound<bf16>(dz(r, v), dz_bound(r, v));
        }
      }
    }
    dhidden = reference::linear_backward_input(dz, w);
    dhidden_bound = reference::linear_backward_input(dz_bound, magnitude(w));
    dhidden_terms = reference::linear_backward_input(dz_terms, magnitude(w));
    add_product_error(dhidden_bound, V, dhidden_terms);
    if (!std::is_same_v<S, A>) {
      for (std::size_t i = 0; i < dhidden.elements.size(); ++i) {
        dhidden_bound.elements[i] = stored_bound<S>(dhidden.elements[i], dhidden_bound.elements[i]);
      }
    }
    dw = before + reference::linear_backward_weight(dz, hidden);
    dw_bound = reference::linear_backward_weight(dz_bound, magnitude(hidden));
    add_product_error(
        dw_bound,
        R,
        magnitude(before) + reference::linear_backward_weight(dz_terms, magnitude(hidden)));
  }

  /// Where logits are stored as bf16, the largest one is among those that may be it.
  comparison predictions(const std::vector<token_t>& predicted, inputs kind) const {
    const std::vector<token_t> best = reference::predict(z);
    if (!stores_bf16 || kind == inputs::whole) {
      return same_bits(predicted, best);
    }
    std::vector<double> actual, expected, bounds;
    for (std::size_t r = 0; r < best.size(); ++r) {
      const auto row = static_cast<index_t>(r);
      const bool exists = predicted[r] >= 0 && predicted[r] < z.size(1);
      actual.push_back(exists ? z(row, predicted[r]) : HUGE_VAL);
      expected.push_back(z(row, best[r]));
      bounds.push_back(2 * logit_errors[r]);
    }
    return within(actual, expected, bounds);
  }

 private:
  static constexpr bool sum_is_scaled = !backend_traits<B>::is_host_memory;
  static constexpr bool rounds_gradients = std::is_same_v<S, bf16>;  // of logits
  static constexpr bool stores_bf16 = rounds_gradients && sum_is_scaled;

  /// How often a thread's sum can meet a new maximum: once for each 16 bytes that it looks at.
  static double scalings(index_t V) {
    return 2 + static_cast<double>(
                   std::max<index_t>(4, ceil_div(V * static_cast<index_t>(sizeof(S)), 16 * 1024)));
  }

  /// Of a product of `count` terms, whose factors of bf16 may be off by as much as they are large.
  static void add_product_error(array<2>& errors, index_t count, const array<2>& terms) {
    for (std::size_t i = 0; i < errors.elements.size(); ++i) {
      const double magnitude = terms.elements[i] + (rounds_gradients ? errors.elements[i] : 0);
      errors.elements[i] += dot_bound(count + 1, unit_roundoff<A>, magnitude);
    }
  }
};

}  // namespace mtp::test::linear_cross_entropy_tests
