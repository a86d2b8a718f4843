// Reductions against the reference. Who includes this says for which cases: see
// support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "mtp/ops/reduce.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/layout.hpp"
#include "support/random.hpp"
#include "support/reference/reduce.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::reduce {

inline constexpr double inf = std::numeric_limits<double>::infinity();
inline constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Contiguous, with gaps, transposed; rows around a chain, a pack, a warp's share, a block's and a
// task; rows of several chunks, in packs and not.
inline const layout layouts[] = {{{1, 1}, {1, 1}},
                                 {{3, 15}, {15, 1}},
                                 {{3, 17}, {20, 1}},
                                 {{5, 4}, {1, 5}},
                                 {{0, 5}, {5, 1}},
                                 {{7, 64}, {72, 1}},
                                 {{2, 1023}, {1023, 1}},
                                 {{2, 1025}, {1030, 1}},
                                 {{300, 7}, {1, 300}},
                                 {{3, 40000}, {40000, 1}},
                                 {{7, 5000}, {5001, 1}},
                                 {{2, 8193}, {1, 3}},
                                 {{20000, 2}, {2, 1}}};

template <class S>
double checked_sum_bound(const reference::reductions& expected, index_t count) {
  return stored_bound<S>(expected.sum,
                         sum_bound(count, unit_roundoff<accumulate_t<S>>, expected.magnitude));
}

TEST_CASE_TEMPLATE_DEFINE("reductions over the last dimension match the reference in any layout",
                          Case,
                          rows) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(1 << 20);
  for (const layout& each : some_of<B>(layouts)) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const index_t N = shape[0], C = shape[1];
    const guarded<S, 2, B> x(shape, strides, normal(shape.count(), 1));  // [N, C]
    guarded<S, 1, B> total(dims<1>{N}, {3}), average(dims<1>{N}), largest(dims<1>{N}),
        smallest(dims<1>{N});                 // [N]
    guarded<token_t, 1, B> best(dims<1>{N});  // [N]
    sum(context, total.view(), x.view());
    mean(context, average.view(), x.view());
    maximum(context, largest.view(), x.view());
    minimum(context, smallest.view(), x.view());
    argmax(context, best.view(), x.view());
    const auto all = values(x.view());
    for (index_t n = 0; n < N; ++n) {
      CAPTURE(n);
      const auto expected = reference::reduce(
          std::span(all).subspan(static_cast<std::size_t>(n * C), static_cast<std::size_t>(C)));
      const double bound = checked_sum_bound<S>(expected, C);
      const auto width = static_cast<double>(C);
      REQUIRE(within({static_cast<double>(total.view()(n))}, {expected.sum}, bound));
      REQUIRE(within({static_cast<double>(average.view()(n))},
                     {expected.sum / width},
                     stored_bound<S>(expected.sum / width, 2 * bound / width)));
      REQUIRE(static_cast<double>(largest.view()(n)) == expected.maximum);
      REQUIRE(static_cast<double>(smallest.view()(n)) == expected.minimum);
      REQUIRE(best.view()(n) == expected.argmax);
    }
    CHECK(total.intact());
    CHECK(average.intact());
    CHECK(largest.intact());
    CHECK(smallest.intact());
    CHECK(best.intact());
  }
}

TEST_CASE_TEMPLATE_DEFINE("reductions over everything match the reference in any layout",
                          Case,
                          everything) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(1 << 20);
  for (const layout& each : some_of<B>(layouts)) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    if (shape.count() == 0) {
      continue;  // see the test of reductions over nothing
    }
    const guarded<S, 2, B> x(shape, strides, normal(shape.count(), 2));   // [N, C]
    guarded<accumulate_t<S>, 0, B> total(dims<0>{}), average(dims<0>{});  // []
    guarded<S, 0, B> largest(dims<0>{}), smallest(dims<0>{});             // []
    guarded<index_t, 0, B> best(dims<0>{});                               // []
    sum(context, total.view(), x.view());
    mean(context, average.view(), x.view());
    maximum(context, largest.view(), x.view());
    minimum(context, smallest.view(), x.view());
    argmax(context, best.view(), x.view());
    const auto all = values(x.view());
    const auto expected = reference::reduce(all);
    const auto count = static_cast<double>(shape.count());
    const double bound = checked_sum_bound<accumulate_t<S>>(expected, shape.count());
    CHECK(within(total.view(), {expected.sum}, bound));
    CHECK(within(average.view(),
                 {expected.sum / count},
                 stored_bound<accumulate_t<S>>(expected.sum / count, bound / count)));
    CHECK(within(largest.view(), {expected.maximum}, 0.0));
    CHECK(within(smallest.view(), {expected.minimum}, 0.0));
    CHECK(best.view()() == expected.argmax);
    CHECK(total.intact());
    CHECK(best.intact());
  }
}

TEST_CASE_TEMPLATE_DEFINE("a reduction of a view of rank 3 goes along its last dimension, or all",
                          Case,
                          three_dimensions) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  const dims<3> shape(4, 3, 37);
  const guarded<float, 3, B> x(
      shape, {1, 4, 13}, normal(shape.count(), 6));     // [4, 3, 37] stride (1, 4, 13)
  guarded<float, 2, B> largest(dims<2>(4, 3), {1, 6});  // [4, 3] stride (1, 6)
  guarded<float, 0, B> all(dims<0>{});                  // []
  guarded<index_t, 0, B> best(dims<0>{});               // []
  maximum(context, largest.view(), x.view());
  maximum(context, all.view(), x.view());
  argmax(context, best.view(), x.view());
  const auto numbers = values(x.view());
  std::vector<double> expected;
  for (std::size_t row = 0; row < 12; ++row) {
    expected.push_back(reference::reduce(std::span(numbers).subspan(37 * row, 37)).maximum);
  }
  CHECK(within(largest.view(), expected, 0.0));
  CHECK(within(all.view(), {reference::reduce(numbers).maximum}, 0.0));
  CHECK(best.view()() == reference::reduce(numbers).argmax);
  CHECK(largest.intact());
}

TEST_CASE_TEMPLATE_DEFINE(
    "a sum has the same bits whatever the strides, the rows beside it and who computes it",
    Case,
    invariance) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  for (const index_t count : {5, 1000, 1024, 5000, 100000}) {
    CAPTURE(count);
    const auto numbers = normal(2 * count, 3);
    const guarded<S, 2, B> x(dims<2>(2, count), numbers);               // [2, count]
    const guarded<S, 2, B> spread(dims<2>(2, count), {1, 3}, numbers);  // [2, count] stride (1, 3)
    auto one = testing<B>::make_context(1 << 16);
    guarded<A, 0, B> first(dims<0>{}), second(dims<0>{});  // []
    sum(one, first.view(), x.view().select(0, 0));
    sum(one, second.view(), x.view().select(0, 1));
    guarded<A, 0, B> all(dims<0>{});  // []
    sum(one, all.view(), x.view());
    testing<B>::each_way([&](auto& context, const std::string& way) {
      CAPTURE(way);
      for (const auto& layout : {x.view(), spread.view()}) {
        guarded<A, 1, B> rows(dims<1>(2));  // [2]
        guarded<A, 0, B> total(dims<0>{});  // []
        sum(context, rows.view(), layout);
        sum(context, total.view(), layout);
        CHECK(same_bits(rows.view().select(0, 0), first.view()));
        CHECK(same_bits(rows.view().select(0, 1), second.view()));
        CHECK(same_bits(total.view(), all.view()));
      }
    });
  }
}

TEST_CASE_TEMPLATE_DEFINE("a sum of many equal numbers does not drift", Case, drift) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(1 << 20);
  const index_t count = 1 << 22;
  const guarded<float, 1, B> x(
      dims<1>{count}, std::vector<double>(static_cast<std::size_t>(count), 0.1f));  // [count]
  guarded<float, 0, B> total(dims<0>{});                                            // []
  guarded<float, 1, B> row(dims<1>(1));                                             // [1]
  sum(context, total.view(), x.view());
  sum(context, row.view(), view<const float, dims<2>, B>(x.view().data(), {1, count}));
  // Blocks of 1024 in 16 chains, then pairs: 64 + 4 + 12 roundings, where one chain would have
  // 2^22. Chunks of 4096 by 256 threads, then pairs: 16 + 8 + 10.
  const double exact = static_cast<double>(count) * static_cast<double>(0.1f);
  CHECK(within(total.view(), {exact}, gamma(80, unit_roundoff<float>) * exact));
  CHECK(same_bits(elements(row.view()), elements(total.view())));
}

TEST_CASE_TEMPLATE_DEFINE("NaN propagates through maximum and minimum and never wins argmax",
                          Case,
                          nan_rows) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  const double nan = not_a_number;
  const dims<2> shape(6, 3);
  const std::vector<double> numbers{
      1, nan, 2, nan, 5, 5, nan, nan, nan, -inf, -inf, -inf, nan, -inf, -inf, inf, nan, inf};
  const guarded<S, 2, B> x(shape, numbers);                    // [6, 3]
  guarded<S, 1, B> largest(dims<1>(6)), smallest(dims<1>(6));  // [6]
  guarded<index_t, 1, B> best(dims<1>(6));                     // [6]
  maximum(context, largest.view(), x.view());
  minimum(context, smallest.view(), x.view());
  argmax(context, best.view(), x.view());
  CHECK(values(best.view()) == std::vector<double>{2, 1, -1, 0, 1, 0});
  for (const index_t row : {0, 1, 2, 4, 5}) {
    CHECK(std::isnan(static_cast<double>(largest.view()(row))));
    CHECK(std::isnan(static_cast<double>(smallest.view()(row))));
  }
  CHECK(static_cast<double>(largest.view()(3)) == -inf);
  CHECK(static_cast<double>(smallest.view()(3)) == -inf);
}

TEST_CASE_TEMPLATE_DEFINE("one NaN among many numbers reaches maximum and minimum of all",
                          Case,
                          one_nan) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  const index_t count = 40000;
  for (const index_t at : {index_t{0}, index_t{4095}, index_t{20001}, count - 1}) {
    auto numbers = normal(count, 7);
    numbers[static_cast<std::size_t>(at)] = not_a_number;
    const guarded<float, 1, B> x(dims<1>(count), numbers);         // [count]
    guarded<float, 0, B> largest(dims<0>{}), smallest(dims<0>{});  // []
    maximum(context, largest.view(), x.view());
    minimum(context, smallest.view(), x.view());
    CHECK(std::isnan(largest.view()()));
    CHECK(std::isnan(smallest.view()()));
  }
}

TEST_CASE_TEMPLATE_DEFINE("among zeros of different sign the first is maximum and minimum",
                          Case,
                          zeros) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const index_t count : {2, 300, 20000}) {
    for (const double first : {0.0, -0.0}) {
      std::vector<double> numbers(static_cast<std::size_t>(count), -first);
      numbers[0] = first;
      const guarded<S, 1, B> x(dims<1>(count), numbers);         // [count]
      guarded<S, 0, B> largest(dims<0>{}), smallest(dims<0>{});  // []
      maximum(context, largest.view(), x.view());
      minimum(context, smallest.view(), x.view());
      CHECK(std::signbit(static_cast<double>(largest.view()())) == std::signbit(first));
      CHECK(std::signbit(static_cast<double>(smallest.view()())) == std::signbit(first));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "argmax takes the lowest index of a tie, also across blocks, and passes over blocks of NaN",
    Case,
    ties) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(1 << 16);
  const index_t count = 40000;
  std::vector<double> numbers(static_cast<std::size_t>(count), 0.0);
  const auto best_of = [&] {
    const guarded<float, 1, B> x(dims<1>(count), numbers);  // [count]
    guarded<token_t, 0, B> best(dims<0>{});                 // []
    guarded<token_t, 1, B> row(dims<1>(1));                 // [1]
    argmax(context, best.view(), x.view());
    argmax(context, row.view(), view<const float, dims<2>, B>(x.view().data(), {1, count}));
    CHECK(row.view()(0) == best.view()());
    return best.view()();
  };
  CHECK(best_of() == 0);
  numbers[3000] = numbers[30000] = 1;
  CHECK(best_of() == 3000);
  std::fill_n(numbers.begin(), 5000, not_a_number);
  CHECK(best_of() == 30000);
  numbers[30000] = -5;
  CHECK(best_of() == 5000);
  std::fill(numbers.begin() + 5000, numbers.end(), -inf);
  CHECK(best_of() == 5000);
  std::fill(numbers.begin(), numbers.end(), not_a_number);
  CHECK(best_of() == -1);
}

TEST_CASE_TEMPLATE_DEFINE("reductions over nothing give the neutral element", Case, nothing) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  const guarded<float, 2, B> x(dims<2>(2, 0));    // [2, 0]
  guarded<float, 1, B> rows(dims<1>(2));          // [2]
  guarded<float, 0, B> total(dims<0>{});          // []
  guarded<token_t, 1, B> best(dims<1>(2));        // [2]
  guarded<token_t, 0, B> best_of_all(dims<0>{});  // []
  sum(context, rows.view(), x.view());
  sum(context, total.view(), x.view());
  CHECK(rows.view()(1) == 0);
  CHECK(total.view()() == 0);
  mean(context, rows.view(), x.view());
  CHECK(std::isnan(rows.view()(0)));
  maximum(context, rows.view(), x.view());
  CHECK(rows.view()(1) == -inf);
  minimum(context, rows.view(), x.view());
  CHECK(rows.view()(1) == inf);
  argmax(context, best.view(), x.view());
  CHECK(best.view()(1) == -1);
  argmax(context, best_of_all.view(), x.view());
  CHECK(best_of_all.view()() == -1);
}

TEST_CASE_TEMPLATE_DEFINE("shapes that do not fit throw and leave the output alone",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  const guarded<float, 2, B> x(dims<2>(2, 3), uniform(6, 4));  // [2, 3]
  guarded<float, 1, B> y(dims<1>(3));                          // [3]
  guarded<token_t, 1, B> best(dims<1>(3));                     // [3]
  CHECK_THROWS_WITH_AS(
      sum(context, y.view(), x.view()),
      "sum: expected y of the shape of x [2, 3] without its last dimension, got [3]",
      error);
  CHECK_THROWS_AS(mean(context, y.view(), x.view()), error);
  CHECK_THROWS_AS(maximum(context, y.view(), x.view()), error);
  CHECK_THROWS_AS(minimum(context, y.view(), x.view()), error);
  CHECK_THROWS_AS(argmax(context, best.view(), x.view()), error);
  CHECK(y.untouched());
  CHECK(best.untouched());
}

TEST_CASE_TEMPLATE_DEFINE("too little workspace throws and leaves the output alone",
                          Case,
                          small_workspace) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(64);
  const guarded<float, 1, B> x(dims<1>(100000), uniform(100000, 5));  // [100000]
  guarded<float, 0, B> y(dims<0>{});                                  // []
  CHECK_THROWS_AS(sum(context, y.view(), x.view()), error);
  CHECK(y.untouched());
  CHECK(workspace_is_idle(context));
}

TEST_CASE_TEMPLATE_APPLY(rows, cases);
TEST_CASE_TEMPLATE_APPLY(everything, cases);
TEST_CASE_TEMPLATE_APPLY(three_dimensions, one_case);
TEST_CASE_TEMPLATE_APPLY(invariance, cases);
TEST_CASE_TEMPLATE_APPLY(drift, one_case);
TEST_CASE_TEMPLATE_APPLY(nan_rows, cases);
TEST_CASE_TEMPLATE_APPLY(one_nan, one_case);
TEST_CASE_TEMPLATE_APPLY(zeros, cases);
TEST_CASE_TEMPLATE_APPLY(ties, one_case);
TEST_CASE_TEMPLATE_APPLY(nothing, one_case);
TEST_CASE_TEMPLATE_APPLY(rejections, one_case);
TEST_CASE_TEMPLATE_APPLY(small_workspace, one_case);

}  // namespace mtp::test::reduce
