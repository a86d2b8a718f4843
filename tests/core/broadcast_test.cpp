#include "mtp/core/broadcast.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/tensor.hpp"
#include "support/compare.hpp"

namespace mtp::test::core_broadcast_cases {

using test::values;

TEST_CASE("shapes are aligned at their last dimensions, and sizes of 1 give way") {
  CHECK(broadcast_shape(dims<3>(4, 1, 3), dims<2>(2, 3)) == dims<3>(4, 2, 3));
  CHECK(broadcast_shape(dims<2>(2, 3), dims<3>(4, 1, 3)) == dims<3>(4, 2, 3));
  CHECK(broadcast_shape(dims<1>(5), dims<0>{}) == dims<1>(5));
  CHECK(broadcast_shape(dims<0>{}, dims<0>{}) == dims<0>{});
  CHECK(broadcast_shape(dims<2>(1, 0), dims<2>(7, 1)) == dims<2>(7, 0));
  static_assert(broadcast_shape(extents<2, 1>{}, extents<3>{}) == dims<2>(2, 3));
}

TEST_CASE("shapes that differ are refused, with the dimension") {
  CHECK_THROWS_WITH_AS(
      static_cast<void>(broadcast_shape(dims<3>(4, 2, 3), dims<2>(3, 3))),
      "broadcast_shape: [4, 2, 3] and [3, 3] differ, and neither size is 1, in dimension 1 of the "
      "result",
      error);
  CHECK_THROWS_AS(static_cast<void>(broadcast_shape(dims<1>(0), dims<1>(2))), error);
}

TEST_CASE("broadcast_to repeats without moving an element") {
  const tensor<float, extents<2, 1>, cpu> x({}, {3, 4});  // [2, 1]
  const auto wide = broadcast_to(x, dims<3>(2, 2, 3));    // [2, 2, 3], strides (0, 1, 0)
  CHECK(values(wide) == std::vector<double>{3, 3, 3, 4, 4, 4, 3, 3, 3, 4, 4, 4});
  CHECK(wide.data() == x.data());
  CHECK(wide.stride(0) == 0);
  CHECK(wide.stride(2) == 0);
  CHECK(broadcast_to(x.view(), dims<2>(2, 1)).is_contiguous());
  CHECK_THROWS_WITH_AS(
      static_cast<void>(broadcast_to(x, dims<2>(3, 3))),
      "broadcast_to: expected x of shape [3, 3], or of one that broadcasts to it, got [2, 1]",
      error);
  CHECK_THROWS_AS(static_cast<void>(broadcast_to(x, dims<1>(2))), error);
}

}  // namespace mtp::test::core_broadcast_cases
