// Reductions over any dimension against the reference. Who includes this says for which cases: see
// support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "mtp/core/tensor.hpp"
#include "mtp/ops/reduce_axis.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/random.hpp"
#include "support/reference/reduce.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::reduce_axis {

inline const dims<3> shapes[] = {
    {1, 1, 1}, {2, 3, 5}, {5, 17, 4}, {3, 1, 40}, {1300, 2, 3}, {2, 2100, 3}, {2, 3, 1100}};

/// The elements of x at (.., i, ..) for all i, for each place of the other dimensions in order.
template <class View>
std::vector<std::vector<double>> lines_of(const View& x, int axis) {
  const int first = axis == 0 ? 1 : 0, second = axis == 2 ? 1 : 2;
  std::vector<std::vector<double>> lines;
  for (index_t i = 0; i < x.extent(first); ++i) {
    for (index_t j = 0; j < x.extent(second); ++j) {
      std::vector<double> line;
      for (index_t k = 0; k < x.extent(axis); ++k) {
        std::array<index_t, 3> at{};
        at[static_cast<std::size_t>(first)] = i;
        at[static_cast<std::size_t>(second)] = j;
        at[static_cast<std::size_t>(axis)] = k;
        line.push_back(static_cast<double>(x(at[0], at[1], at[2])));
      }
      lines.push_back(line);
    }
  }
  return lines;
}

inline dims<2> left_over(const dims<3>& shape, int axis) {
  return dims<2>(shape[axis == 0 ? 1 : 0], shape[axis == 2 ? 1 : 2]);
}

TEST_CASE_TEMPLATE_DEFINE("reductions over each axis match the reference, in any layout",
                          Case,
                          axes) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(1 << 20);
  for (const dims<3>& shape : some_of<B>(shapes)) {
    CAPTURE(shape);
    const std::array<index_t, 3> turned{1, shape[0], shape[0] * shape[1]};
    for (const bool contiguous : {true, false}) {
      const guarded<S, 3, B> x(shape,
                               contiguous ? view<S, dims<3>, B>::row_major(shape) : turned,
                               normal(shape.count(), 51));  // shape
      for (int axis = 0; axis < 3; ++axis) {
        CAPTURE(axis);
        const dims<2> rest = left_over(shape, axis);
        guarded<S, 2, B> total(rest), average(rest), largest(rest), smallest(rest);  // rest
        guarded<token_t, 2, B> best(rest);                                           // rest
        sum(context, total.view(), x.view(), axis);
        mean(context, average.view(), x.view(), axis);
        maximum(context, largest.view(), x.view(), axis);
        minimum(context, smallest.view(), x.view(), axis);
        argmax(context, best.view(), x.view(), axis);
        std::vector<double> sums, sum_bounds, means, mean_bounds, maxima, minima;
        std::vector<token_t> indices;
        for (const auto& line : lines_of(x.view(), axis)) {
          const auto expected = reference::reduce(line);
          const auto count = static_cast<index_t>(line.size());
          const auto width = static_cast<double>(count);
          sums.push_back(expected.sum);
          sum_bounds.push_back(stored_bound<S>(
              expected.sum, sum_bound(count, unit_roundoff<accumulate_t<S>>, expected.magnitude)));
          means.push_back(expected.sum / width);
          mean_bounds.push_back(stored_bound<S>(means.back(), 2 * sum_bounds.back() / width));
          maxima.push_back(expected.maximum);
          minima.push_back(expected.minimum);
          indices.push_back(static_cast<token_t>(expected.argmax));
        }
        CHECK(within(total.view(), sums, sum_bounds));
        CHECK(within(average.view(), means, mean_bounds));
        CHECK(within(largest.view(), maxima, 0.0));
        CHECK(within(smallest.view(), minima, 0.0));
        CHECK(elements(best.view()) == indices);
        CHECK(total.intact());
        CHECK(average.intact());
        CHECK(largest.intact());
        CHECK(smallest.intact());
        CHECK(best.intact());
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("a reduction over an axis has the bits of one over the last dimension",
                          Case,
                          axis_bits) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(1 << 20);
  const guarded<S, 3, B> x(dims<3>(7, 2000, 3), normal(42000, 52));  // [7, 2000, 3]
  guarded<S, 2, B> expected(dims<2>(7, 3)), y(dims<2>(7, 3));        // [7, 3]
  guarded<S, 3, B> kept(dims<3>(7, 1, 3));                           // [7, 1, 3]
  sum(context, expected.view(), x.view().transpose(1, 2));
  sum(context, y.view(), x.view(), 1);
  sum(context, kept.view(), x.view(), 1);
  const tensor<S, dims<2>, B> made = sum(context, x.view(), 1);  // [7, 3]
  CHECK(same_bits(y.view(), expected.view()));
  CHECK(same_bits(elements(kept.view()), elements(expected.view())));
  CHECK(same_bits(made.to_host(), elements(expected.view())));
  CHECK(kept.intact());
}

TEST_CASE_TEMPLATE_DEFINE("reductions give new tensors of what is left, and take tensors",
                          Case,
                          new_tensors) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(1 << 20);
  const tensor<float, extents<2, 3>, B> x({}, {1, 5, 3, 4, 2, 8});  // [2, 3]
  const auto rows = mean(context, x, 1);                            // [2]
  const auto columns = maximum(context, x, 0);                      // [3]
  const auto least = minimum(context, x);                           // []
  const auto best = argmax(context, x, 1);                          // [2]
  static_assert(std::is_same_v<decltype(columns), const tensor<float, dims<1>, B>>);
  static_assert(std::is_same_v<decltype(best), const tensor<index_t, dims<1>, B>>);
  CHECK(rows.to_host() == std::vector<float>{3, 14.0f / 3});
  CHECK(columns.to_host() == std::vector<float>{4, 5, 8});
  CHECK(least.to_host() == std::vector<float>{1});
  CHECK(best.to_host() == std::vector<index_t>{1, 2});
  CHECK(sum(context, x).to_host() == std::vector<float>{23});
  CHECK(argmax(context, x).to_host() == std::vector<index_t>{5});
  tensor<float, extents<2, 1>, B> kept;  // [2, 1]
  sum(context, kept, x, 1);
  CHECK(kept.to_host() == std::vector<float>{9, 14});
}

TEST_CASE_TEMPLATE_DEFINE("an axis that does not exist and a wrong shape are refused",
                          Case,
                          refused) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(1 << 20);
  const guarded<float, 2, B> x(dims<2>(2, 3), uniform(6, 53));  // [2, 3]
  guarded<float, 1, B> y(dims<1>(3));                           // [3]
  guarded<float, 2, B> kept(dims<2>(2, 3));                     // [2, 3]
  CHECK_THROWS_WITH_AS(
      sum(context, y.view(), x.view(), 2), "sum: expected an axis in [0, 2), got 2", error);
  CHECK_THROWS_AS(mean(context, y.view(), x.view(), -1), error);
  CHECK_THROWS_AS(maximum(context, y.view(), x.view(), 1), error);
  CHECK_THROWS_AS(static_cast<void>(argmax(context, x.view(), 2)), error);
  CHECK_THROWS_WITH_AS(minimum(context, kept.view(), x.view(), 0),
                       "minimum: expected y of size 1 in dimension 0, got [2, 3]",
                       error);
  CHECK(y.untouched());
  CHECK(kept.untouched());
}

TEST_CASE_TEMPLATE_APPLY(axes, cases);
TEST_CASE_TEMPLATE_APPLY(axis_bits, cases);
TEST_CASE_TEMPLATE_APPLY(new_tensors, one_case);
TEST_CASE_TEMPLATE_APPLY(refused, one_case);

}  // namespace mtp::test::reduce_axis
