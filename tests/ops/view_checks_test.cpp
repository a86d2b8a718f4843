#include "mtp/ops/view_checks.hpp"

#include <doctest/doctest.h>

#include <concepts>

#include "mtp/core/backend.hpp"

namespace mtp::test::ops_view_checks_cases {

TEST_CASE("the compiler finds shapes that cannot be equal") {
  using mtp::detail::same_shape;
  static_assert(same_shape<extents<2, 3>, extents<2, 3>>);
  static_assert(same_shape<extents<2, dynamic>, extents<dynamic, 3>>);
  static_assert(!same_shape<extents<2, 3>, extents<2, 4>>);
  static_assert(!same_shape<extents<3, dynamic>, extents<2, dynamic>>);
  static_assert(!same_shape<dims<2>, dims<1>>);
  static_assert(mtp::detail::may_equal<extents<2, 3>, extents<2, 4>>(1));  // the first size alone
}

TEST_CASE("elements of one type are told from others") {
  using mtp::detail::one_element;
  static_assert(one_element<float, const float, float> && one_element<bf16, bf16>);
  static_assert(!one_element<const float, float> && !one_element<float, double>);
  static_assert(!one_element<int, int>);
  static_assert(std::same_as<mtp::detail::arithmetic_t<const bf16>, float>);
  static_assert(std::same_as<mtp::detail::arithmetic_t<double>, double>);
  static_assert(std::same_as<mtp::detail::arithmetic_t<const bool>, bool>);
}

TEST_CASE("a backend gets views whose sizes are known at run time only, and reads inputs") {
  float element = 1;
  const view<float, extents<1, 1>, host_memory> x(&element, {});  // [1, 1]
  const auto read = mtp::detail::input(x);
  const auto written = mtp::detail::output(x);
  static_assert(std::same_as<decltype(read), const view<const float, dims<2>, host_memory>>);
  static_assert(std::same_as<decltype(written), const view<float, dims<2>, host_memory>>);
  CHECK(read.data() == &element);
  CHECK(written.data() == &element);
}

TEST_CASE("a wrong shape is refused with function, name and both shapes") {
  float element = 1;
  const view<float, dims<1>, host_memory> x(&element, dims<1>{1}),
      none(&element, dims<1>{0});  // [1], [0]
  mtp::detail::check_same_shape("f", "x", x, x);
  CHECK_THROWS_WITH_AS(mtp::detail::check_same_shape("f", "x", none, x),
                       "f: expected x of shape [1], got [0]",
                       error);
}

}  // namespace mtp::test::ops_view_checks_cases
