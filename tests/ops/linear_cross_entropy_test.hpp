// Output matrix, softmax and cross entropy as one operation against the reference. Who includes
// this says for which cases: see support/backends.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/ops/linear_cross_entropy.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
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
  std::vector<double> logit_errors;  // [R]

  expectation(const loss_case<S, B>& a, inputs kind)
      : z({0, 0}), losses(z), dhidden(z), dw(z), loss_bound(z), dhidden_bound(z), dw_bound(z) {
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
    const double steps = sum_is_scaled ? scalings(V) : 0;
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
    add_product_error(dhidden_bound, V, reference::linear_backward_input(dz_terms, magnitude(w)));
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

/// With `everywhere` the operation without gradients and the one in place as well.
template <class S, class B>
void check_case(context<B>& context, const loss_sizes& s, inputs kind, bool everywhere) {
  CAPTURE(s.R);
  CAPTURE(s.V);
  CAPTURE(s.J);
  CAPTURE(static_cast<int>(kind));
  loss_case<S, B> a(s, kind);
  const expectation<S, B> expected(a, kind);
  a.run(context);
  CHECK(within(a.losses.view(), expected.losses.elements, expected.loss_bound.elements));
  CHECK(within(a.dhidden.view(), expected.dhidden.elements, expected.dhidden_bound.elements));
  CHECK(within(a.dw.rows().elements, expected.dw.elements, expected.dw_bound.elements));
  CHECK(expected.predictions(elements(a.predicted.view()), kind));
  CHECK(a.losses.intact());
  CHECK(a.predicted.intact());
  CHECK(a.dhidden.intact());
  CHECK(a.dw.intact());
  CHECK(a.dw.padding_is_zero());
  CHECK(a.hidden.untouched());
  CHECK(a.weights.untouched());
  CHECK(a.targets.untouched());

  if (!everywhere) {
    return;
  }
  loss_case<S, B> forward(s, kind);
  forward.run_forward(context);
  CHECK(same_bits(forward.losses.view(), a.losses.view()));
  CHECK(same_bits(forward.predicted.view(), a.predicted.view()));
  CHECK(forward.losses.intact());
  CHECK(forward.predicted.intact());

  loss_case<S, B> in_place(s, kind);
  in_place.run_in_place(context);
  CHECK(same_bits(in_place.hidden.view(), a.dhidden.view()));
  CHECK(same_bits(in_place.dw.storage(), a.dw.storage()));
  CHECK(in_place.hidden.intact());
}

TEST_CASE_TEMPLATE_DEFINE("linear_cross_entropy matches the reference", Case, match) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const inputs kind : {inputs::small, inputs::large, inputs::whole}) {
    if (kind != inputs::small && !testing<B>::at_full_size) {
      break;
    }
    for (const loss_sizes& s : some_of<B>(sizes)) {
      check_case<S, B>(context, s, kind, true);
    }
  }
  for (const loss_sizes& s : large_sizes<B>()) {
    check_case<S, B>(context, s, inputs::small, backend_traits<B>::is_host_memory);
  }
}

TEST_CASE_TEMPLATE_DEFINE("linear_cross_entropy gradients match differences of the weighted losses",
                          Case,
                          gradients) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  if constexpr (std::is_same_v<S, double>) {
    auto context = testing<B>::make_context();
    for (const loss_sizes& s : {loss_sizes{6, 4, 7, 2}, loss_sizes{33, 18, 101, 2}}) {
      loss_case<double, B> a(s, inputs::small);
      const array<2> before = a.dw.rows(), weights = array_of(a.weights.view());
      a.run(context);
      array<2> dw = a.dw.rows();
      for (std::size_t i = 0; i < dw.elements.size(); ++i) {
        dw.elements[i] -= before.elements[i];
      }
      const gradcheck_options options{.error = 0x1p-50};  // of that difference
      loss_case<double, B> moved(s, inputs::small);
      const auto loss = [&] {
        moved.run_forward(context);
        return reference::inner(weights, array_of(moved.losses.view()));
      };
      CHECK(gradient_matches(
          [&](std::span<const double> at) {
            moved.hidden.set(std::vector<double>(at.begin(), at.end()));
            return loss();
          },
          values(a.hidden.view()),
          values(a.dhidden.view())));
      moved.hidden.set(values(a.hidden.view()));
      CHECK(gradient_matches(
          [&](std::span<const double> at) {
            moved.w =
                guarded_weight<double, B>(s.V, s.C, std::vector<double>(at.begin(), at.end()));
            return loss();
          },
          a.w.rows().elements,
          dw.elements,
          options));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("linear_cross_entropy gives the same bits however it is computed",
                          Case,
                          ways) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  for (const loss_sizes& s : {loss_sizes{200, 9, 301, 2}, loss_sizes{3, 5, 20011, 1}}) {
    CHECK(same_in_all_ways<B>([&](auto& context) {
      loss_case<S, B> a(s);
      a.run(context);
      return a.results();
    }));
  }
}

TEST_CASE_TEMPLATE_DEFINE("linear_cross_entropy stays within the workspace that it plans",
                          Case,
                          workspace) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  for (const loss_sizes& s : {loss_sizes{1, 1, 1, 1}, loss_sizes{20, 9, 1001, 2}}) {
    loss_case<S, B> a(s);
    auto small = testing<B>::make_context(0);
    small.reserve(ops_of<B>::template linear_cross_entropy_workspace<S>(
        s.R, s.V, s.C, index_t{small.threads()}));
    CHECK_NOTHROW(a.run(small));
    CHECK_NOTHROW(a.run_forward(small));

    auto smaller = testing<B>::make_context(0);
    guarded<S, 2, B> logits(dims<2>{s.R, s.V}, normal(s.R * s.V, 1));
    smaller.reserve(ops_of<B>::template predict_workspace<S>(s.R, s.V, index_t{smaller.threads()}));
    CHECK_NOTHROW(predict(smaller, a.predicted.view(), logits.view()));
  }
}

TEST_CASE_TEMPLATE_DEFINE("linear_cross_entropy without a place for it computes no gradient of w",
                          Case,
                          without_dw) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const loss_sizes s{7, 5, 19, 2};
  loss_case<S, B> a(s), usual(s);
  usual.run(context);
  linear_cross_entropy(context,
                       a.losses.view(),
                       a.predicted.view(),
                       a.dhidden.view(),
                       weight_view<accumulate_t<S>, B>(nullptr, s.V, s.C),
                       a.hidden.view(),
                       a.w.view(),
                       a.targets.view(),
                       a.weights.view());
  CHECK(same_bits(a.dhidden.view(), usual.dhidden.view()));
  CHECK(same_bits(a.losses.view(), usual.losses.view()));
  CHECK(a.dw.untouched());
}

TEST_CASE_TEMPLATE_DEFINE("rows without targets or weights have no gradient", Case, no_gradient) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const loss_sizes s{7, 5, 19, 2};
  loss_case<S, B> without_targets(s), without_weights(s);
  const array<2> before = without_targets.dw.rows();
  without_targets.set_targets(target_list(14, -1));
  without_targets.run(context);
  CHECK(within(without_targets.losses.view(), std::vector<double>(14), 0.0));
  CHECK(within(without_targets.dhidden.view(), std::vector<double>(35), 0.0));
  CHECK(within(without_targets.dw.rows().elements, before.elements, 0.0));
  const std::vector<token_t> predicted = elements(without_targets.predicted.view());
  CHECK(std::none_of(
      predicted.begin(), predicted.end(), [](token_t token) { return token < 0 || token >= 19; }));

  without_weights.weights.set(std::vector<double>(14));
  without_weights.run(context);
  CHECK(within(without_weights.dhidden.view(), std::vector<double>(35), 0.0));
  CHECK(within(without_weights.dw.rows().elements, before.elements, 0.0));
  loss_case<S, B> weighted(s);
  weighted.run(context);
  CHECK(same_bits(without_weights.losses.view(), weighted.losses.view()));
}

TEST_CASE_TEMPLATE_DEFINE("targets that are the same token add up their weights",
                          Case,
                          equal_targets) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t V = 21;
  const auto size = static_cast<std::size_t>(V);
  // One logit is far above the others, so the softmax is 1 there and 0 elsewhere, in every type.
  for (const double logit : {256.0, 0x1p100}) {
    CAPTURE(logit);
    std::vector<double> w(size, -logit / 4);
    w[5] = logit / 4;
    loss_case<S, B> a({1, 1, V, 4});
    a.w = guarded_weight<S, B>(V, 1, w);
    a.hidden.set({4});
    a.set_targets({5, 9, 9, -1});
    a.weights.set({0.5, 0.25, 1, 8});
    a.dw = guarded_weight<accumulate_t<S>, B>(V, 1, std::vector<double>(size));
    a.run(context);
    CHECK(within(a.losses.view(), {0, 2 * logit, 2 * logit, 0}, 0.0));
    std::vector<double> dw(size);
    dw[5] = 4 * (1.75 - 0.5);
    dw[9] = 4 * -1.25;
    // The exponentials of the CPU end at a tiny number in place of zero.
    CHECK(within(a.dw.rows().elements, dw, 1e-36));
    CHECK(within(a.dhidden.view(), {logit / 4 * (1.25 + 1.25)}, 1e-36 * logit));
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "logits that are not finite show in losses and gradients of their row alone",
    Case,
    not_finite) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const double strange[] = {std::numeric_limits<double>::quiet_NaN(),
                            std::numeric_limits<double>::infinity(),
                            -std::numeric_limits<double>::infinity()};
  for (const index_t V : {1, 5, 19, 50, 300}) {
    for (const double value : strange) {
      const loss_sizes s{6, 3, V, 2};
      loss_case<S, B> a(s), usual(s);
      const target_list targets = {0, -1, 0, 0, 0, 0, -1, -1, 0, 0, 0, -1};
      const std::vector<double> weights = {1, 1, 1, -1, 1, 1, 1, 1, 0, 0, 1, 1};
      a.set_targets(targets);
      usual.set_targets(targets);
      a.weights.set(weights);
      usual.weights.set(weights);
      for (const index_t r : {1, 3, 4}) {
        a.hidden.view()(r, 1) = stored<S>(value);
      }
      a.run(context);
      usual.run(context);
      CAPTURE(V);
      CAPTURE(value);
      for (const index_t r : {0, 2, 5}) {
        CHECK(same_bits(a.losses.view().select(0, r), usual.losses.view().select(0, r)));
        CHECK(same_bits(a.dhidden.view().select(0, r), usual.dhidden.view().select(0, r)));
      }
      const auto nan_count = [](const std::vector<double>& numbers) {
        return std::count_if(
            numbers.begin(), numbers.end(), [](double number) { return std::isnan(number); });
      };
      CHECK(nan_count(values(a.losses.view().select(0, 1))) == 2);
      CHECK(nan_count(values(a.losses.view().select(0, 3))) == 0);  // no targets
      CHECK(nan_count(values(a.losses.view().select(0, 4))) == 2);
      CHECK(nan_count(values(a.dhidden.view().select(0, 1))) == 3);  // weights 1 and -1
      CHECK(nan_count(values(a.dhidden.view().select(0, 3))) == 0);
      CHECK(nan_count(values(a.dhidden.view().select(0, 4))) == 0);  // no weights
      CHECK(nan_count(a.dw.rows().elements) == V * 3);
      CHECK(a.dw.padding_is_zero());
    }
  }
}

/// One logit of a row is set by a weight, the others are those of a common row.
TEST_CASE_TEMPLATE_DEFINE("a single logit that is not finite is noticed wherever it stands",
                          Case,
                          one_not_finite) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  const double infinity = std::numeric_limits<double>::infinity();
  const index_t V = 1100;
  for (const index_t at : {index_t{0}, index_t{7}, index_t{513}, V - 1}) {
    for (const double value : {infinity, -infinity, std::numeric_limits<double>::quiet_NaN()}) {
      CAPTURE(at);
      CAPTURE(value);
      std::vector<double> w(static_cast<std::size_t>(V), 0.5);
      w[3] = 2;
      w[static_cast<std::size_t>(at)] = value;
      loss_case<S, B> a({1, 1, V, 1});
      a.hidden.set({1});
      a.set_targets({4});
      a.weights.set({1});
      a.w = guarded_weight<S, B>(V, 1, w);
      a.dw = guarded_weight<A, B>(V, 1, std::vector<double>(static_cast<std::size_t>(V)));
      a.run(context);
      CHECK(std::isnan(static_cast<double>(a.losses.view()(0, 0))));
      const std::vector<double> dw = a.dw.rows().elements;
      CHECK(std::all_of(dw.begin(), dw.end(), [](double number) { return std::isnan(number); }));
      CHECK(a.predicted.view()(0) == (value == infinity ? at : 3));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("a loss keeps its precision where all logits are large", Case, offset) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  // Multiples of 1/4 beside a power of two, small enough for every element type to hold.
  const std::vector<double> small = {0, 0.25, -0.25, 0.5, -0.5};
  for (const double common : {0.0, 16.0, -16.0, 128.0, -128.0, 4096.0, -4096.0, 1048576.0}) {
    if (std::is_same_v<S, bf16> && std::abs(common) > 16) {
      continue;  // logits of bf16 are too coarse
    }
    CAPTURE(common);
    std::vector<double> w;
    for (const double each : small) {
      w.push_back(each);
      w.push_back(common);
    }
    double sum = 0;
    for (const double each : small) {
      sum += std::exp(each);
    }
    for (token_t target = 0; target < 5; ++target) {
      loss_case<S, B> a({1, 2, 5, 1});
      a.hidden.set({1, 1});
      a.set_targets({target});
      a.weights.set({1});
      a.w = guarded_weight<S, B>(5, 2, w);
      a.dw = guarded_weight<A, B>(5, 2, std::vector<double>(10));
      a.run(context);
      const double expected = std::log(sum) - small[static_cast<std::size_t>(target)];
      const double lost = std::abs(common) < 64 ? 64 * unit_roundoff<A> : 4 * unit_roundoff<A>;
      CHECK(std::abs(static_cast<double>(a.losses.view()(0, 0)) - expected) <= lost * 2);
    }
  }
}

/// Rows of logits whose largest number stands at various places, among others that are not numbers.
inline std::vector<std::vector<double>> rows_to_predict(index_t V) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const auto with = [](std::vector<double> row, index_t at, double value) {
    row[static_cast<std::size_t>(at)] = value;
    return row;
  };
  const auto size = static_cast<std::size_t>(V);
  const std::vector<double> same(size, -2.0), nothing(size, nan);
  std::vector<std::vector<double>> rows = {
      same, nothing, std::vector<double>(size, -infinity), std::vector<double>(size, infinity)};
  for (index_t v = 0; v < V; ++v) {
    if (V > 200 && v % 1024 > 1 && v + 2 < V && v != 1023) {
      continue;  // in long rows only places around the limits of slices
    }
    rows.push_back(with(same, v, 1));
    rows.push_back(with(same, v, nan));
    rows.push_back(with(same, v, infinity));
    rows.push_back(with(same, v, -infinity));
    rows.push_back(with(nothing, v, -3));
    rows.push_back(with(nothing, v, -infinity));
    rows.push_back(with(with(same, V - 1, 4), v, 4));
    rows.push_back(with(with(same, V - 1, 4), v, nan));
    rows.push_back(with(with(same, V / 2, 0.0), v, -0.0));
  }
  return rows;
}

TEST_CASE_TEMPLATE_DEFINE("predictions ignore NaN and go to the lowest index of the largest logit",
                          Case,
                          predictions) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const index_t V : {1, 2, 7, 16, 19, 33, 100, 1024, 2051}) {
    const std::vector<std::vector<double>> rows = rows_to_predict(V);
    const auto M = static_cast<index_t>(rows.size());
    array<2> z({M, V});
    for (index_t m = 0; m < M; ++m) {
      for (index_t v = 0; v < V; ++v) {
        z(m, v) = rows[static_cast<std::size_t>(m)][static_cast<std::size_t>(v)];
      }
    }
    for (const index_t gap : V % 8 == 0 ? std::vector<index_t>{3, 16} : std::vector<index_t>{3}) {
      guarded<S, 2, B> logits(dims<2>{M, V}, strides(V + gap, 1), z.elements);
      guarded<token_t, 1, B> predicted(dims<1>{M});
      predict(context, predicted.view(), logits.view());
      CAPTURE(V);
      CHECK(same_bits(elements(predicted.view()), reference::predict(z)));
      CHECK(predicted.intact());
      CHECK(logits.untouched());
    }

    // All logits equal: every token is as likely as any other.
    loss_case<S, B> equal({1, 1, V, 1});
    equal.w = guarded_weight<S, B>(V, 1, std::vector<double>(static_cast<std::size_t>(V), 2.0));
    equal.hidden.set({3});
    equal.set_targets({static_cast<token_t>(V - 1)});
    equal.run_forward(context);
    CHECK(equal.predicted.view()(0) == 0);
    CHECK(within(equal.losses.view(),
                 {std::log(static_cast<double>(V))},
                 gamma(static_cast<double>(V) + 20, unit_roundoff<accumulate_t<S>>) * 12));
  }
}

TEST_CASE_TEMPLATE_DEFINE("linear_cross_entropy rejects wrong shapes and changes nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  loss_case<S, B> a({4, 3, 6, 2});
  guarded<S, 2, B> hidden_wide(dims<2>{4, 4}, uniform(16, 1)),
      longer(dims<2>{5, 3}, uniform(15, 1));
  guarded<S, 2, B> spread(dims<2>{4, 3}, strides(6, 2), uniform(12, 1));
  guarded<A, 2, B> losses_wide(dims<2>{4, 3}), weights_wide(dims<2>{4, 3}, uniform(12, 1));
  guarded_weight<S, B> w_wide(6, 4, uniform(24, 1));
  guarded_weight<A, B> dw_other(5, 3, uniform(15, 1));
  guarded<token_t, 1, B> short_predicted(dims<1>{3});
  const auto call =
      [&](auto losses, auto predicted, auto dhidden, auto dw, auto hidden, auto w, auto weights) {
        return rejects("linear_cross_entropy", [&] {
          linear_cross_entropy(
              context, losses, predicted, dhidden, dw, hidden, w, a.targets.view(), weights);
        });
      };
  const auto l = a.losses.view(), g = a.weights.view();
  const auto dh = a.dhidden.view(), h = a.hidden.view();
  const auto p = a.predicted.view(), short_p = short_predicted.view();
  const auto w = a.w.view();
  const auto dw = a.dw.view();
  CHECK(call(losses_wide.view(), p, dh, dw, h, w, g));
  CHECK(call(l, short_p, dh, dw, h, w, g));
  CHECK(call(l, p, longer.view(), dw, h, w, g));
  CHECK(call(l, p, spread.view(), dw, h, w, g));
  CHECK(call(l, p, dh, dw_other.view(), h, w, g));
  CHECK(call(l, p, dh, dw, hidden_wide.view(), w, g));
  CHECK(call(l, p, dh, dw, spread.view(), w, g));
  CHECK(call(l, p, dh, dw, longer.view(), w, g));
  CHECK(call(l, p, dh, dw, h, w_wide.view(), g));
  CHECK(call(l, p, dh, dw, h, w, weights_wide.view()));
  const auto forward = [&](auto losses, auto predicted, auto hidden, auto w_) {
    return rejects("linear_cross_entropy_forward", [&] {
      linear_cross_entropy_forward(context, losses, predicted, hidden, w_, a.targets.view());
    });
  };
  CHECK(forward(losses_wide.view(), p, h, w));
  CHECK(forward(l, short_p, h, w));
  CHECK(forward(l, p, hidden_wide.view(), w));
  CHECK(forward(l, p, spread.view(), w));
  CHECK(forward(l, p, h, w_wide.view()));
  CHECK(rejects("predict", [&] { predict(context, short_p, hidden_wide.view()); }));
  CHECK(rejects("predict", [&] { predict(context, p, spread.view()); }));
  CHECK(a.losses.untouched());
  CHECK(losses_wide.untouched());
  CHECK(a.dhidden.untouched());
  CHECK(a.hidden.untouched());
  CHECK(spread.untouched());
  CHECK(longer.untouched());
  CHECK(a.dw.untouched());
  CHECK(dw_other.untouched());
  CHECK(a.predicted.untouched());
  CHECK(short_predicted.untouched());
}

TEST_CASE_TEMPLATE_APPLY(match, cases);
TEST_CASE_TEMPLATE_APPLY(gradients, cases);
TEST_CASE_TEMPLATE_APPLY(ways, cases);
TEST_CASE_TEMPLATE_APPLY(workspace, cases);
TEST_CASE_TEMPLATE_APPLY(without_dw, cases);
TEST_CASE_TEMPLATE_APPLY(no_gradient, cases);
TEST_CASE_TEMPLATE_APPLY(equal_targets, cases);
TEST_CASE_TEMPLATE_APPLY(not_finite, cases);
TEST_CASE_TEMPLATE_APPLY(one_not_finite, cases);
TEST_CASE_TEMPLATE_APPLY(offset, cases);
TEST_CASE_TEMPLATE_APPLY(predictions, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::linear_cross_entropy_tests
