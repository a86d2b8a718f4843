#include "mtp/ops/detail.hpp"

#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "mtp/core/backend.hpp"

namespace mtp::test::ops_detail_cases {

TEST_CASE("gradients of parameters have the accumulator type of the elements") {
  using mtp::detail::result_of;
  using mtp::detail::sums_of;
  static_assert(sums_of<float, bf16> && sums_of<float, const float> && sums_of<double, double>);
  static_assert(!sums_of<bf16, bf16> && !sums_of<double, float> && !sums_of<int, int>);
  static_assert(result_of<bf16, const bf16> && result_of<float, bf16>);
  static_assert(!result_of<bf16, float> && !result_of<double, float>);
}

TEST_CASE("rows are refused unless their elements lie side by side") {
  std::array<float, 6> memory{};
  const matrix_view<float, host_memory> x(memory.data(), dims<2>{2, 3});  // [2, 3]
  mtp::detail::check_rows("f", "x", x);
  CHECK_THROWS_WITH_AS(mtp::detail::check_rows("f", "x", x.transpose()),
                       "f: the last dimension of x must have stride 1, got 3",
                       error);
  mtp::detail::check_rows("f", "x", x.slice(0, 0, 1).transpose());  // one element in each row
}

TEST_CASE("shapes are refused with what was expected and what came") {
  std::array<float, 6> memory{};
  const matrix_view<float, host_memory> x(memory.data(), dims<2>{2, 3});  // [2, 3]
  mtp::detail::check_shape("f", "x", x, {2, 3});
  CHECK_THROWS_WITH_AS(mtp::detail::check_shape("f", "x", x, {3, 2}),
                       "f: expected x of shape [3, 2], got [2, 3]",
                       error);
  const weight_view<float, host_memory> w(memory.data(), 2, 3);  // [2, 3]
  mtp::detail::check_weight("f", "w", w, 2, 3);
  CHECK_THROWS_WITH_AS(mtp::detail::check_weight("f", "w", w, 2, 2),
                       "f: expected w of shape [2, 2], got [2, 3]",
                       error);
  CHECK_THROWS_AS(mtp::detail::check_weight("f", "w", w, 3, 3), error);
}

TEST_CASE("rows without heads are rows of one head, and numbers a column") {
  std::vector<float> memory{1, 2, 3, 4, 5, 6};
  const matrix_view<float, host_memory> x(
      memory.data(), dims<2>{2, 2}, {3, 1});  // [2, 2], rows 3 apart
  const auto heads = mtp::detail::as_heads(x);
  CHECK(heads.shape() == dims<3>(2, 1, 2));
  CHECK(heads(0, 0, 1) == 2);
  CHECK(heads(1, 0, 0) == 4);
  const vector_view<float, host_memory> numbers(memory.data(), dims<1>{3}, {2});  // [3], 2 apart
  const auto column = mtp::detail::as_column(numbers);
  CHECK(column.shape() == dims<2>(3, 1));
  CHECK(column(2, 0) == 5);
}

}  // namespace mtp::test::ops_detail_cases
