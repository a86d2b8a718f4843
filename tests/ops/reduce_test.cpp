#include "mtp/ops/reduce.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/tensor.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/guard.hpp"
#include "support/layout.hpp"
#include "support/random.hpp"
#include "support/reference/reduce.hpp"
#include "support/tolerance.hpp"

using namespace mtp;
using test::guarded;
using test::layout;
using test::same_bits;
using test::stored_bound;
using test::unit_roundoff;
using test::values;
using test::within;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Contiguous, with gaps, transposed; rows around a chain, a block and a task.
const std::vector<layout>& layouts() {
  static const std::vector<layout> all{{{1, 1}, {1, 1}},
                                       {{3, 15}, {15, 1}},
                                       {{3, 17}, {20, 1}},
                                       {{5, 4}, {1, 5}},
                                       {{0, 5}, {5, 1}},
                                       {{2, 1023}, {1023, 1}},
                                       {{2, 1025}, {1030, 1}},
                                       {{300, 7}, {1, 300}},
                                       {{3, 40000}, {40000, 1}},
                                       {{7, 5000}, {5001, 1}},
                                       {{20000, 2}, {2, 1}}};
  return all;
}

template <class S>
double checked_sum_bound(const reference::reductions& expected, index_t count) {
  return stored_bound<S>(
      expected.sum, test::sum_bound(count, unit_roundoff<accumulate_t<S>>, expected.magnitude));
}

}  // namespace

TEST_CASE_TEMPLATE("reductions over the last dimension match the reference in any layout",
                   S,
                   double,
                   float,
                   bf16) {
  cpu_context context({.threads = 2, .workspace_bytes = 1 << 20});
  for (const layout& each : layouts()) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const index_t N = shape[0], C = shape[1];
    const guarded<S, 2> x(shape, strides, test::normal(shape.count(), 1));  // [N, C]
    guarded<S, 1> total(dims<1>{N}, {3}), average(dims<1>{N}), largest(dims<1>{N}),
        smallest(dims<1>{N});              // [N]
    guarded<token_t, 1> best(dims<1>{N});  // [N]
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

TEST_CASE_TEMPLATE(
    "reductions over everything match the reference in any layout", S, double, float, bf16) {
  cpu_context context({.threads = 2, .workspace_bytes = 1 << 20});
  for (const layout& each : layouts()) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    if (shape.count() == 0) {
      continue;  // see the test of reductions over nothing
    }
    const guarded<S, 2> x(shape, strides, test::normal(shape.count(), 2));  // [N, C]
    guarded<accumulate_t<S>, 0> total(dims<0>{}), average(dims<0>{});       // []
    guarded<S, 0> largest(dims<0>{}), smallest(dims<0>{});                  // []
    guarded<index_t, 0> best(dims<0>{});                                    // []
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
  }
}

TEST_CASE("a sum has the same bits whatever the strides, the threads and the rows beside it") {
  for (const index_t count : {5, 1000, 1024, 5000, 100000}) {
    CAPTURE(count);
    const auto numbers = test::normal(2 * count, 3);
    const guarded<float, 2> x(dims<2>(2, count), numbers);               // [2, count]
    const guarded<float, 2> spread(dims<2>(2, count), {1, 3}, numbers);  // [2, count] stride (1, 3)
    cpu_context one({.threads = 1, .workspace_bytes = 1 << 16});
    guarded<float, 0> first(dims<0>{}), second(dims<0>{});  // []
    sum(one, first.view(), x.view().select(0, 0));
    sum(one, second.view(), x.view().select(0, 1));
    guarded<float, 0> all(dims<0>{});  // []
    sum(one, all.view(), x.view());
    for (int threads = 1; threads <= 4; ++threads) {
      cpu_context several({.threads = threads, .workspace_bytes = 1 << 16});
      for (const auto& layout : {x.view(), spread.view()}) {
        guarded<float, 1> rows(dims<1>(2));  // [2]
        guarded<float, 0> total(dims<0>{});  // []
        sum(several, rows.view(), layout);
        sum(several, total.view(), layout);
        CHECK(same_bits(rows.view().select(0, 0), first.view()));
        CHECK(same_bits(rows.view().select(0, 1), second.view()));
        CHECK(same_bits(total.view(), all.view()));
      }
    }
  }
}

TEST_CASE("a sum of many equal numbers does not drift") {
  cpu_context context({.threads = 2, .workspace_bytes = 1 << 20});
  const index_t count = 1 << 22;
  tensor<float, dims<1>, cpu> x(dims<1>{count});  // [count]
  std::fill_n(x.data(), count, 0.1f);
  guarded<float, 0> total(dims<0>{});  // []
  sum(context, total.view(), x.view());
  // Blocks of 1024 in 16 chains, then pairs: 64 + 4 + 12 roundings, where one chain would have
  // 2^22.
  const double exact = static_cast<double>(count) * static_cast<double>(0.1f);
  CHECK(within(total.view(), {exact}, test::gamma(80, unit_roundoff<float>) * exact));
}

TEST_CASE("NaN propagates through maximum and minimum and never wins argmax") {
  cpu_context context({.threads = 1, .workspace_bytes = 0});
  const dims<2> shape(6, 3);
  const guarded<float, 2> x(shape,
                            std::vector<double>{1,
                                                not_a_number,
                                                2,  //
                                                not_a_number,
                                                5,
                                                5,  //
                                                not_a_number,
                                                not_a_number,
                                                not_a_number,  //
                                                -inf,
                                                -inf,
                                                -inf,  //
                                                not_a_number,
                                                -inf,
                                                -inf,  //
                                                inf,
                                                not_a_number,
                                                inf});          // [6, 3]
  guarded<float, 1> largest(dims<1>(6)), smallest(dims<1>(6));  // [6]
  guarded<index_t, 1> best(dims<1>(6));                         // [6]
  maximum(context, largest.view(), x.view());
  minimum(context, smallest.view(), x.view());
  argmax(context, best.view(), x.view());
  CHECK(values(best.view()) == std::vector<double>{2, 1, -1, 0, 1, 0});
  for (const index_t row : {0, 1, 2, 4, 5}) {
    CHECK(std::isnan(largest.view()(row)));
    CHECK(std::isnan(smallest.view()(row)));
  }
  CHECK(largest.view()(3) == -inf);
  CHECK(smallest.view()(3) == -inf);
}

TEST_CASE(
    "argmax takes the lowest index of a tie, also across blocks, and passes over blocks of NaN") {
  cpu_context context({.threads = 2, .workspace_bytes = 1 << 16});
  const index_t count = 40000;
  std::vector<double> numbers(static_cast<std::size_t>(count), 0.0);
  const auto best_of = [&] {
    const guarded<float, 1> x(dims<1>(count), numbers);  // [count]
    guarded<token_t, 0> best(dims<0>{});                 // []
    argmax(context, best.view(), x.view());
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
}

TEST_CASE("reductions over nothing give the neutral element") {
  cpu_context context({.threads = 1, .workspace_bytes = 0});
  const guarded<float, 2> x(dims<2>(2, 0));  // [2, 0]
  guarded<float, 1> rows(dims<1>(2));        // [2]
  guarded<float, 0> total(dims<0>{});        // []
  guarded<token_t, 1> best(dims<1>(2));      // [2]
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
}

TEST_CASE("shapes that do not fit throw and leave the output alone") {
  cpu_context context({.threads = 1, .workspace_bytes = 0});
  const guarded<float, 2> x(dims<2>(2, 3), test::uniform(6, 4));  // [2, 3]
  guarded<float, 1> y(dims<1>(3));                                // [3]
  guarded<token_t, 1> best(dims<1>(3));                           // [3]
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

TEST_CASE("too little workspace throws and leaves the output alone") {
  cpu_context context({.threads = 1, .workspace_bytes = 64});
  const guarded<float, 1> x(dims<1>(100000), test::uniform(100000, 5));  // [100000]
  guarded<float, 0> y(dims<0>{});                                        // []
  CHECK_THROWS_AS(sum(context, y.view(), x.view()), error);
  CHECK(y.untouched());
  CHECK(context.workspace().used() == 0);
}
