// AdamW and the sum of squares against the reference. Who includes this says for which cases: see
// support/backends.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/ops/optimizer.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/optimizer.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::optimizer {

using reference::adamw_state;
using reference::array_of;

inline const index_t counts[] = {0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 257, 1000};

inline adamw_coefficients coefficients_of(int step, double weight_decay, double gradient_scale) {
  return {.learning_rate = 3e-3,
          .beta1 = 0.9,
          .beta2 = 0.95,
          .epsilon = 1e-8,
          .weight_decay = weight_decay,
          .gradient_scale = gradient_scale,
          .correction1 = 1 - std::pow(0.9, step),
          .correction2 = 1 - std::pow(0.95, step)};
}

template <class B>
using range_list = std::vector<adamw_range, shared_allocator<adamw_range, B>>;

/// All elements as ranges of odd lengths.
template <class B>
range_list<B> ranges_of(index_t P, bool decays) {
  range_list<B> ranges;
  for (index_t first = 0; first < P;) {
    const index_t count = std::min({P - first, index_t{1777}, 1 + first});
    ranges.push_back({first, static_cast<std::int32_t>(count), decays ? 1 : 0});
    first += count;
  }
  return ranges;
}

/// The arrays of an update of P elements. Where the master weights are the values themselves, there
/// is one array of both.
template <class S, class B>
struct adamw_case {
  using A = accumulate_t<S>;
  static constexpr bool has_master = !std::is_same_v<S, A>;

  guarded<S, 1, B> value;
  guarded<A, 1, B> own_master, first, second, gradient;

  adamw_case(const std::vector<double>& values,
             const std::vector<double>& firsts,
             const std::vector<double>& seconds)
      : value(of(values), values),
        own_master(of(values), values),
        first(of(values), firsts),
        second(of(values), seconds),
        gradient(of(values)) {}
  static dims<1> of(const std::vector<double>& values) {
    return dims<1>{static_cast<index_t>(values.size())};
  }

  auto& master() {
    if constexpr (has_master) {
      return own_master;
    } else {
      return value;
    }
  }
  void update(context<B>& context, const range_list<B>& ranges, const adamw_coefficients& c) {
    adamw_update(context,
                 value.view(),
                 master().view(),
                 first.view(),
                 second.view(),
                 gradient.view(),
                 vector_view<const adamw_range, B>(ranges.data(),
                                                   dims<1>{static_cast<index_t>(ranges.size())}),
                 c);
  }
  void update(context<B>& context, const adamw_coefficients& c) {
    update(context, ranges_of<B>(value.view().extent(0), true), c);
  }
  /// Values are the master weights, rounded once.
  comparison value_is_master() {
    std::vector<S> rounded;
    for (const double master : values(master().view())) {
      rounded.push_back(stored<S>(master));
    }
    return same_bits(elements(value.view()), rounded);
  }
  bool intact() {
    return value.intact() && own_master.intact() && first.intact() && second.intact() &&
           gradient.untouched();
  }
  std::vector<double> results() {
    return join(join(values(value.view()), values(master().view())),
                join(values(first.view()), values(second.view())));
  }
};

inline std::vector<double> zeros(index_t count) {
  return std::vector<double>(static_cast<std::size_t>(count));
}

template <class Context, class View>
double squares_of(Context& context, View x) {
  guarded<double, 1, typename View::backend_type> result(dims<1>{1});
  sum_of_squares(context, result.view(), x);
  REQUIRE(result.intact());
  return result.view()(0);
}

/// What the reference makes of all elements, and how far an update may be off.
struct expectation {
  std::vector<double> masters, firsts, seconds, master_bounds, first_bounds, second_bounds;

  template <class A>
  void add(const adamw_state& before, double gradient, const adamw_coefficients& c) {
    const double u = unit_roundoff<A>;
    const adamw_state after = reference::adamw(before, gradient, c);
    // Coefficients are rounded once, products and sums once each: at most six roundings of each
    // term.
    const double first_error =
        gamma(6, u) *
        (std::abs(c.beta1 * before.first) + std::abs((1 - c.beta1) * c.gradient_scale * gradient));
    const double second_error = gamma(8, u) * after.second;
    const double denominator = std::sqrt(after.second / c.correction2) + c.epsilon;
    const double rate = c.learning_rate / c.correction1 / denominator;
    masters.push_back(after.value);
    firsts.push_back(after.first);
    seconds.push_back(after.second);
    first_bounds.push_back(first_error + smallest_number<A>);
    second_bounds.push_back(second_error + smallest_number<A>);
    master_bounds.push_back(gamma(4, u) * std::abs(before.value) +
                            rate * (first_error + gamma(14, u) * std::abs(after.first)));
  }
  void leave(const adamw_state& as_it_is) {
    masters.push_back(as_it_is.value);
    firsts.push_back(as_it_is.first);
    seconds.push_back(as_it_is.second);
    master_bounds.push_back(0);
    first_bounds.push_back(0);
    second_bounds.push_back(0);
  }
  template <class Case>
  void check_that(Case& a) const {
    CHECK(within(a.master().view(), masters, master_bounds));
    CHECK(within(a.first.view(), firsts, first_bounds));
    CHECK(within(a.second.view(), seconds, second_bounds));
    CHECK(a.intact());
  }
};

template <class Case>
adamw_state state_of(Case& a, index_t p) {
  return {static_cast<double>(a.master().view()(p)),
          static_cast<double>(a.first.view()(p)),
          static_cast<double>(a.second.view()(p))};
}

TEST_CASE_TEMPLATE_DEFINE("adamw_update matches the reference step by step", Case, steps) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  for (const index_t P : counts) {
    for (const double weight_decay : {0.0, 0.1}) {
      for (const double gradient_scale : {1.0, 0.3}) {
        adamw_case<S, B> a(normal(P, 1), zeros(P), zeros(P));
        for (int step = 1; step <= 6; ++step) {
          CAPTURE(P);
          CAPTURE(step);
          a.gradient.set(normal(P, static_cast<std::uint64_t>(step + 1)));
          const auto c = coefficients_of(step, weight_decay, gradient_scale);
          expectation expected;
          for (index_t p = 0; p < P; ++p) {
            expected.add<A>(state_of(a, p), static_cast<double>(a.gradient.view()(p)), c);
          }
          a.update(context, c);
          expected.check_that(a);
          CHECK(a.value_is_master());
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("adamw_update changes ranges of any place and length and nothing else",
                          Case,
                          ranges_alone) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  const index_t P = 36001;
  // The longest at every distance from a pack, without an element, within a pack, and to the end.
  const range_list<B> ranges = {{1, 16384, 1},
                                {16385, 16379, 0},
                                {32764, 0, 1},
                                {32768, 1, 0},
                                {32770, 3, 1},
                                {32776, 8, 1},
                                {32784, 13, 0},
                                {32800, 3200, 1}};
  adamw_case<S, B> a(normal(P, 1), normal(P, 2, 0.1), uniform(P, 3, 0, 1));
  a.gradient.set(normal(P, 4));
  const auto c = coefficients_of(5, 0.1, 0.7);
  auto still = c;
  still.weight_decay = 0;
  std::vector<int> range_at(static_cast<std::size_t>(P), -1);
  for (std::size_t r = 0; r < ranges.size(); ++r) {
    std::fill_n(range_at.begin() + ranges[r].begin, ranges[r].count, static_cast<int>(r));
  }
  expectation expected;
  for (index_t p = 0; p < P; ++p) {
    const int r = range_at[static_cast<std::size_t>(p)];
    const adamw_state before = state_of(a, p);
    if (r < 0) {
      expected.leave(before);
    } else {
      const bool decays = ranges[static_cast<std::size_t>(r)].decays != 0;
      expected.add<A>(before, static_cast<double>(a.gradient.view()(p)), decays ? c : still);
    }
  }
  const std::vector<S> values_before = elements(a.value.view());
  a.update(context, ranges, c);
  expected.check_that(a);
  for (index_t p = 0; p < P; ++p) {
    if (range_at[static_cast<std::size_t>(p)] < 0) {
      REQUIRE(same_bits(std::vector<S>{a.value.view()(p)},
                        std::vector<S>{values_before[static_cast<std::size_t>(p)]}));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("adamw_update gives elements the same bits wherever arrays lie",
                          Case,
                          places) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t P = 301;
  const auto c = coefficients_of(3, 0.1, 0.7);
  const range_list<B> ranges = {{2, 250, 1}};
  const auto run = [&](index_t shift) {
    const auto shifted = [&](std::vector<double> elements) {
      elements.insert(elements.begin(), static_cast<std::size_t>(shift), 0.0);
      return elements;
    };
    adamw_case<S, B> a(shifted(normal(P, 1)), shifted(normal(P, 2)), shifted(uniform(P, 3, 0, 1)));
    a.gradient.set(shifted(normal(P, 4)));
    const auto part = [&](auto& array) { return array.view().slice(0, shift, P); };
    adamw_update(context,
                 part(a.value),
                 part(a.master()),
                 part(a.first),
                 part(a.second),
                 part(a.gradient),
                 vector_view<const adamw_range, B>(ranges.data(), dims<1>{1}),
                 c);
    CHECK(a.intact());
    return join(join(values(part(a.value)), values(part(a.master()))),
                join(values(part(a.first)), values(part(a.second))));
  };
  const std::vector<double> expected = run(0);
  for (const index_t shift : {1, 3, 4, 8}) {
    CAPTURE(shift);
    CHECK(same_bits(run(shift), expected));
  }
}

TEST_CASE_TEMPLATE_DEFINE("the first step of adamw_update moves every value by the learning rate",
                          Case,
                          first_step) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  if constexpr (std::is_same_v<S, double>) {
    auto context = testing<B>::make_context();
    adamw_case<double, B> a(std::vector<double>(4, 1.0), zeros(4), zeros(4));
    a.gradient.set({5, -5, 1e-3, -1e3});
    const auto c = coefficients_of(1, 0, 1);
    a.update(context, c);
    const double rate = c.learning_rate;
    // Epsilon takes away 1e-8 / 1e-3 of the rate at most.
    CHECK(within(a.value.view(), {1 - rate, 1 + rate, 1 - rate, 1 + rate}, 2e-5 * rate));
  }
}

TEST_CASE_TEMPLATE_DEFINE("adamw_update leaves zeros with zero gradients as they are",
                          Case,
                          nothing_to_do) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  adamw_case<S, B> a(zeros(37), zeros(37), zeros(37));
  a.gradient.set(zeros(37));
  for (int step = 1; step <= 3; ++step) {
    a.update(context, coefficients_of(step, 0.1, 0.5));
  }
  CHECK(within(a.results(), zeros(4 * 37), 0.0));
}

TEST_CASE_TEMPLATE_DEFINE("adamw_update goes on from values that were changed", Case, changed) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t P = 301;
  adamw_case<S, B> changed(normal(P, 1), zeros(P), zeros(P));
  std::vector<double> values_then = normal(P, 1);
  for (const index_t p : {0, 7, 8, 100, 300}) {  // in packs and beside them
    values_then[static_cast<std::size_t>(p)] = 0.75;
    changed.value.view()(p) = stored<S>(0.75);
  }
  adamw_case<S, B> expected(values_then, zeros(P), zeros(P));
  for (adamw_case<S, B>* each : {&changed, &expected}) {
    each->gradient.set(normal(P, 2));
    each->update(context, coefficients_of(1, 0.1, 1));
  }
  CHECK(same_bits(changed.results(), expected.results()));
  CHECK(changed.value_is_master());
}

TEST_CASE_TEMPLATE_DEFINE("adamw_update keeps values finite whatever finite gradients come",
                          Case,
                          rim) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  using limits = std::numeric_limits<A>;
  auto context = testing<B>::make_context();
  const auto most = static_cast<double>(limits::max());
  const auto least = static_cast<double>(limits::min());
  const double square = std::sqrt(most);  // the square of more does not fit
  const std::vector<double> gradients = {0,
                                         -0.0,
                                         least,
                                         -least,
                                         static_cast<double>(limits::denorm_min()),
                                         least / 8,
                                         1e-30,
                                         1e-19,
                                         1e-8,
                                         -1,
                                         1e18,
                                         -square / 8,
                                         square,
                                         8 * square,
                                         -1e3 * square,
                                         most / 1e3,
                                         most,
                                         -most,
                                         most,
                                         -8 * square,
                                         0,
                                         1};
  const auto P = static_cast<index_t>(gradients.size());
  for (const double learning_rate : {1e-3, 100.0}) {
    CAPTURE(learning_rate);
    adamw_case<S, B> a(std::vector<double>(gradients.size(), 1.0), zeros(P), zeros(P));
    auto c = coefficients_of(1, 0, 1);
    c.learning_rate = learning_rate;
    a.gradient.set(gradients);
    a.update(context, c);
    for (index_t p = 0; p < P; ++p) {
      CAPTURE(p);
      const double g = gradients[static_cast<std::size_t>(p)];
      const auto value = static_cast<double>(a.master().view()(p));
      const bool fits = std::abs(g) <= square;
      CHECK(static_cast<double>(a.second.view()(p)) <= (fits ? most : HUGE_VAL));
      CHECK(std::isinf(static_cast<double>(a.second.view()(p))) == (std::abs(g) > square));
      // Far above epsilon, the first step is one of the learning rate; squares that do not fit move
      // nothing.
      const double step = !fits ? 0 : g / (std::abs(g) + 1e-8) * learning_rate;
      CHECK(value == doctest::Approx(1 - step).epsilon(1e-5));
    }
    // Nor does any later step, whatever the moments have become.
    for (int step = 2; step <= 4; ++step) {
      a.gradient.set(step == 3 ? gradients : zeros(P));
      c = coefficients_of(step, 0.1, 1);
      a.update(context, c);
      for (index_t p = 0; p < P; ++p) {
        CAPTURE(p);
        CHECK(std::isfinite(static_cast<double>(a.master().view()(p))));
      }
    }
    CHECK(a.value_is_master());
  }
  // What is not a number is not hidden.
  adamw_case<S, B> a(std::vector<double>(1, 1.0), zeros(1), zeros(1));
  a.gradient.set({std::numeric_limits<double>::quiet_NaN()});
  a.update(context, coefficients_of(1, 0, 1));
  CHECK(std::isnan(static_cast<double>(a.master().view()(0))));
}

TEST_CASE_TEMPLATE_DEFINE(
    "adamw_update and sum_of_squares give the same bits however they are computed", Case, ways) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const index_t P = 100003;
  CHECK(same_in_all_ways<B>([&](auto& context) {
    adamw_case<S, B> a(normal(P, 2), normal(P, 3), uniform(P, 4, 0, 1));
    a.gradient.set(normal(P, 1));
    a.update(context, coefficients_of(3, 0.1, 0.7));
    return a.results();
  }));
  guarded<S, 1, B> gradient(dims<1>{P}, normal(P, 1));
  CHECK(same_in_all_ways<B>(
      [&](auto& context) { return std::vector<double>{squares_of(context, gradient.view())}; }));
}

TEST_CASE_TEMPLATE_DEFINE("sum_of_squares matches the reference", Case, sums) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const index_t P : {0, 1, 2, 7, 15, 16, 17, 33, 1000, 16383, 16384, 16385, 50021}) {
    CAPTURE(P);
    guarded<S, 1, B> x(dims<1>{P}, normal(P, 1));
    const double expected = reference::sum_of_squares(array_of(x.view()));
    const double sum = squares_of(context, x.view());
    CHECK(within({sum}, {expected}, dot_bound(P, 0x1p-53, expected)));
    CHECK(x.untouched());

    // Elsewhere in memory they have the same sum.
    std::vector<double> elements = normal(P, 1);
    elements.insert(elements.begin(), 0.0);
    guarded<S, 1, B> moved(dims<1>{P + 1}, elements);
    CHECK(same_bits(std::vector<double>{squares_of(context, moved.view().slice(0, 1, P))},
                    std::vector<double>{sum}));
  }
}

TEST_CASE_TEMPLATE_DEFINE("sum_of_squares shows what is not a number wherever it stands",
                          Case,
                          not_a_number) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const index_t P : {1, 17, 40000}) {
    for (const index_t at : {index_t{0}, P / 2, P - 1}) {
      guarded<S, 1, B> x(dims<1>{P}, normal(P, 1));
      x.view()(at) = stored<S>(std::numeric_limits<double>::quiet_NaN());
      CHECK(std::isnan(squares_of(context, x.view())));
      x.view()(at) = stored<S>(-std::numeric_limits<double>::infinity());
      CHECK(squares_of(context, x.view()) == std::numeric_limits<double>::infinity());
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("sum_of_squares does not overflow where its elements do not",
                          Case,
                          large_elements) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  guarded<S, 1, B> x(dims<1>{3}, std::vector<double>{3e38, 1e-30, 2});
  const double expected = reference::sum_of_squares(array_of(x.view()));
  CHECK(within({squares_of(context, x.view())}, {expected}, dot_bound(3, 0x1p-53, expected)));
}

TEST_CASE_TEMPLATE_DEFINE("optimizer operations reject wrong shapes and change nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  adamw_case<S, B> a(uniform(5, 1), uniform(5, 2), uniform(5, 3));
  a.gradient.set(uniform(5, 4));
  guarded<S, 1, B> longer(dims<1>{6}, uniform(6, 5)), spread(dims<1>{5}, strides(2), uniform(5, 6));
  guarded<A, 1, B> longer_sums(dims<1>{6}, uniform(6, 5)),
      spread_sums(dims<1>{5}, strides(2), uniform(5, 6));
  const range_list<B> ranges = ranges_of<B>(5, true);
  const vector_view<const adamw_range, B> all(ranges.data(),
                                              dims<1>{static_cast<index_t>(ranges.size())});
  const auto refused = [&](auto value, auto master, auto first, auto second, auto gradient) {
    return rejects("adamw_update", [&] {
      adamw_update(
          context, value, master, first, second, gradient, all, coefficients_of(1, 0.1, 1));
    });
  };
  const auto v = a.value.view();
  const auto m = a.master().view(), b = a.first.view(), c = a.second.view(), d = a.gradient.view();
  CHECK(refused(longer.view(), m, b, c, d));
  CHECK(refused(spread.view(), m, b, c, d));
  for (const auto wrong : {longer_sums.view(), spread_sums.view()}) {
    CHECK(refused(v, wrong, b, c, d));
    CHECK(refused(v, m, wrong, c, d));
    CHECK(refused(v, m, b, wrong, d));
    CHECK(refused(v, m, b, c, wrong));
  }
  if constexpr (!adamw_case<S, B>::has_master) {
    CHECK(refused(v, b, c, d, m));  // master weights that are not the values
  }
  CHECK(rejects("sum_of_squares", [&] {
    sum_of_squares(context, guarded<double, 1, B>(dims<1>{1}).view(), spread.view());
  }));
  CHECK(rejects("sum_of_squares",
                [&] { sum_of_squares(context, guarded<double, 1, B>(dims<1>{2}).view(), v); }));
  CHECK(a.value.untouched());
  CHECK(a.own_master.untouched());
  CHECK(a.first.untouched());
  CHECK(a.second.untouched());
  CHECK(a.gradient.untouched());
  CHECK(longer.untouched());
  CHECK(spread.untouched());
  CHECK(longer_sums.untouched());
  CHECK(spread_sums.untouched());
}

TEST_CASE_TEMPLATE_APPLY(steps, cases);
TEST_CASE_TEMPLATE_APPLY(ranges_alone, cases);
TEST_CASE_TEMPLATE_APPLY(places, cases);
TEST_CASE_TEMPLATE_APPLY(first_step, cases);
TEST_CASE_TEMPLATE_APPLY(nothing_to_do, cases);
TEST_CASE_TEMPLATE_APPLY(changed, cases);
TEST_CASE_TEMPLATE_APPLY(rim, cases);
TEST_CASE_TEMPLATE_APPLY(ways, cases);
TEST_CASE_TEMPLATE_APPLY(sums, cases);
TEST_CASE_TEMPLATE_APPLY(not_a_number, cases);
TEST_CASE_TEMPLATE_APPLY(large_elements, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::optimizer
