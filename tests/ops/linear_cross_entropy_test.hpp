// Output matrix, softmax and cross entropy as one operation against the reference. Who includes
// this says for which cases: see support/backends.hpp.
#pragma once

#include <doctest/doctest.h>

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
#include "support/cross_entropy_case.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"

namespace mtp::test::linear_cross_entropy_tests {

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
