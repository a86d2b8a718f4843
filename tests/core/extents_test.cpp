#include "mtp/core/extents.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <sstream>

namespace mtp::test::core_extents_cases {

TEST_CASE("static extents know everything at compile time") {
  constexpr extents<3, 4> shape;
  static_assert(shape.rank == 2 && shape.is_static && shape[0] == 3 && shape[1] == 4);
  static_assert(shape.count() == 12);
  static_assert(!extents<3, dynamic>::is_static);
}

TEST_CASE("rank 0 has one element") {
  constexpr extents<> shape;
  static_assert(shape.rank == 0 && shape.count() == 1);
}

TEST_CASE("dynamic sizes come from the constructor") {
  const extents<dynamic, 256> shape{7, 256};
  CHECK(shape[0] == 7);
  CHECK(shape.count() == 7 * 256);
  CHECK(dims<3>(2, 0, 5).count() == 0);
}

TEST_CASE("a value that contradicts a static size throws") {
  CHECK_THROWS_WITH_AS(
      (extents<dynamic, 256>{7, 255}), "extents: size 1 is fixed to 256, got 255", error);
}

TEST_CASE("a negative size throws") {
  CHECK_THROWS_AS(dims<2>(3, -1), error);
}

TEST_CASE("sizes whose product does not fit throw, also beside a size of zero") {
  constexpr index_t big = index_t{1} << 32;
  CHECK_THROWS_WITH_AS(dims<2>(big, big),
                       "extents: the product of the sizes [4294967296, 4294967296] does not fit "
                       "into 64 bits",
                       error);
  CHECK_THROWS_AS(dims<2>(big, big / 2), error);
  CHECK_THROWS_AS(dims<3>(0, big, big), error);  // its strides would not fit
  CHECK_THROWS_AS((extents<dynamic, 3>(std::numeric_limits<index_t>::max(), 3)), error);
  CHECK(dims<2>(big, big / 4).count() == index_t{1} << 62);
  CHECK(dims<1>(std::numeric_limits<index_t>::max()).count() ==
        std::numeric_limits<index_t>::max());
  CHECK(dims<2>(big, 0).count() == 0);
}

TEST_CASE("conversions forget static sizes, and check them on the way back") {
  const dims<2> forgotten = extents<3, 4>{};
  CHECK(forgotten == extents<3, 4>{});
  CHECK_NOTHROW((extents<3, dynamic>{forgotten}));
  CHECK_THROWS_AS((extents<5, dynamic>{forgotten}), error);
}

TEST_CASE("shapes compare by sizes, and never across ranks") {
  CHECK(dims<2>(3, 4) == extents<3, 4>{});
  CHECK(dims<2>(3, 4) != dims<2>(4, 3));
  CHECK(dims<2>(3, 4) != dims<3>(3, 4, 1));
}

TEST_CASE("shapes print as lists") {
  std::ostringstream out;
  out << dims<3>(2, 3, 4) << dims<1>(5) << extents<>{};
  CHECK(out.str() == "[2, 3, 4][5][]");
}

TEST_CASE("dims and extents_type name the shapes they promise") {
  static_assert(std::same_as<dims<2>, extents<dynamic, dynamic>>);
  static_assert(extents_type<dims<0>> && !extents_type<int>);
}

}  // namespace mtp::test::core_extents_cases
