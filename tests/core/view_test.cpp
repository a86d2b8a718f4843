#include "mtp/core/view.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "support/compare.hpp"

namespace mtp::test::core_view_cases {

using test::values;

namespace {

// [2, 3, 4] with elements 0 .. 23 in row-major order.
struct numbered {
  std::vector<float> memory = std::vector<float>(24);
  view<float, dims<3>, cpu> x{memory.data(), dims<3>(2, 3, 4)};  // [2, 3, 4]
  numbered() { std::iota(memory.begin(), memory.end(), 0.0f); }
};

}  // namespace

TEST_CASE_FIXTURE(numbered, "a view of contiguous memory has row-major strides") {
  CHECK(x.stride(0) == 12);
  CHECK(x.stride(1) == 4);
  CHECK(x.stride(2) == 1);
  CHECK(x.is_contiguous());
  CHECK(x.count() == 24);
  CHECK(x(1, 2, 3) == 23);
  x(1, 0, 0) = -1;
  CHECK(memory[12] == -1);
}

TEST_CASE_FIXTURE(numbered, "slice keeps a part of one dimension") {
  const auto part = x.slice(1, 1, 2);  // [2, 2, 4] stride (12, 4, 1)
  CHECK(part.shape() == dims<3>(2, 2, 4));
  CHECK(!part.is_contiguous());
  CHECK(part(1, 0, 3) == x(1, 1, 3));
  CHECK(x.slice(2, 4, 0).empty());
  CHECK(x.slice(0, 0, 2).is_contiguous());
}

TEST_CASE_FIXTURE(numbered, "slice throws for what does not lie inside") {
  CHECK_THROWS_WITH_AS(
      static_cast<void>(x.slice(1, 2, 2)), "view::slice: [2, 2 + 2) does not lie in [0, 3)", error);
  CHECK_THROWS_AS(static_cast<void>(x.slice(1, -1, 2)), error);
  CHECK_THROWS_AS(static_cast<void>(x.slice(1, 0, -1)), error);
  CHECK_THROWS_AS(static_cast<void>(x.slice(3, 0, 1)), error);
  CHECK_THROWS_AS(static_cast<void>(x.slice(-1, 0, 1)), error);
}

TEST_CASE_FIXTURE(numbered, "slice takes every second or third element of a dimension") {
  const auto odd = x.slice(2, 1, 2, 2);  // [2, 3, 2] stride (12, 4, 2)
  CHECK(odd.shape() == dims<3>(2, 3, 2));
  CHECK(values(odd) == std::vector<double>{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23});
  CHECK(values(odd.slice(1, 0, 2, 2)) == std::vector<double>{1, 3, 9, 11, 13, 15, 21, 23});
  CHECK(values(x.slice(2, 0, 2, 3).select(0, 0).select(0, 0)) == std::vector<double>{0, 3});
  CHECK(values(x.slice(1, 2, 1, 100).select(1, 0)) == values(x.select(1, 2)));
  CHECK(x.slice(2, 4, 0, 2).empty());
  CHECK(x.slice(2, 0, 4, 1).is_contiguous());
}

TEST_CASE_FIXTURE(numbered, "slice in steps throws for what does not lie inside") {
  CHECK_THROWS_WITH_AS(static_cast<void>(x.slice(2, 1, 3, 2)),
                       "view::slice: 3 elements from 1 on in steps of 2 do not lie in [0, 4)",
                       error);
  CHECK_THROWS_WITH_AS(static_cast<void>(x.slice(2, 0, 2, 0)),
                       "view::slice: expected a step of at least 1, got 0",
                       error);
  CHECK_THROWS_AS(static_cast<void>(x.slice(2, 0, 3, 2)), error);  // the next would be behind it
  CHECK_THROWS_AS(static_cast<void>(x.slice(2, 0, 2, -1)), error);
  CHECK_THROWS_AS(static_cast<void>(x.slice(2, 4, 1, 1)), error);
  CHECK_THROWS_AS(static_cast<void>(x.slice(2, 5, 0, 1)), error);
  CHECK_THROWS_AS(static_cast<void>(x.slice(2, -1, 1, 1)), error);
  CHECK_THROWS_AS(static_cast<void>(x.slice(2, 0, -1, 1)), error);
  CHECK_THROWS_AS(static_cast<void>(x.slice(3, 0, 1, 1)), error);
  constexpr index_t most = std::numeric_limits<index_t>::max();
  CHECK_THROWS_AS(static_cast<void>(x.slice(2, 1, most, most)), error);
  CHECK_THROWS_AS(static_cast<void>(x.slice(2, most, 2, most)), error);
  CHECK(x.slice(2, 3, 1, most).count() == 6);
}

TEST_CASE_FIXTURE(numbered, "at gives the element, and throws where there is none") {
  CHECK(x.at(1, 2, 3) == 23);
  CHECK(&x.at(0, 1, 2) == &x(0, 1, 2));
  CHECK(x.transpose().at(1, 3, 2) == 23);
  CHECK_THROWS_WITH_AS(
      x.at(1, 3, 0),
      "view::at: index 3 of dimension 1 does not lie in [0, 3), the shape is [2, 3, 4]",
      error);
  CHECK_THROWS_AS(x.at(-1, 0, 0), error);
  CHECK_THROWS_AS(x.at(2, 0, 0), error);
  CHECK_THROWS_AS(x.at(0, 0, 4), error);
  CHECK(x.select(0, 0).select(0, 0).select(0, 2).at() == 2);
}

TEST_CASE_FIXTURE(numbered, "a contiguous view is a range of its elements in row-major order") {
  CHECK(std::vector<float>(x.begin(), x.end()) == memory);
  for (float& element : x.slice(0, 1, 1)) {
    element = -element;
  }
  CHECK(memory[11] == 11);
  CHECK(memory[12] == -12);
  CHECK(memory[23] == -23);
  CHECK(std::ranges::max(x.select(0, 0)) == 11);
  const std::span<const float> all(x.select(0, 0));
  CHECK(all.size() == 12);
  CHECK_THROWS_WITH_AS(x.transpose().begin(),
                       "view::begin: the view of shape [2, 4, 3] is not contiguous; make a "
                       "contiguous copy with mtp::clone(context, view)",
                       error);
  CHECK_THROWS_AS(x.slice(1, 0, 2).end(), error);
  const view<float, dims<2>, cpu> nothing(nullptr, dims<2>(0, 3));  // [0, 3]
  CHECK(nothing.begin() == nothing.end());
}

TEST_CASE_FIXTURE(numbered, "select fixes one dimension") {
  const auto middle = x.select(1, 2);  // [2, 4] stride (12, 1)
  CHECK(values(middle) == std::vector<double>{8, 9, 10, 11, 20, 21, 22, 23});
  CHECK(x.select(0, 1).select(0, 0).select(0, 3)() == 15);
  CHECK_THROWS_WITH_AS(
      static_cast<void>(x.select(0, 2)), "view::select: index 2 does not lie in [0, 2)", error);
  CHECK_THROWS_AS(static_cast<void>(x.select(3, 0)), error);
}

TEST_CASE_FIXTURE(numbered, "transpose swaps dimensions without moving elements") {
  const auto turned = x.select(0, 1).transpose();  // [4, 3] stride (1, 4)
  CHECK(values(turned) == std::vector<double>{12, 16, 20, 13, 17, 21, 14, 18, 22, 15, 19, 23});
  CHECK(x.transpose(0, 2)(3, 1, 0) == x(0, 1, 3));
  CHECK(x.transpose().transpose().is_contiguous());
  CHECK_THROWS_AS(static_cast<void>(x.transpose(0, 3)), error);
}

TEST_CASE_FIXTURE(numbered, "reshape gives contiguous elements another shape") {
  const auto rows = x.reshape(dims<2>(6, 4));  // [6, 4]
  CHECK(rows(5, 3) == 23);
  CHECK(x.reshape(extents<24>{})(7) == 7);
  CHECK_THROWS_AS(static_cast<void>(x.reshape(dims<2>(5, 5))), error);
  CHECK_THROWS_AS(static_cast<void>(x.transpose().reshape(dims<1>(24))), error);
}

TEST_CASE_FIXTURE(numbered,
                  "views convert to const and to dynamic sizes, and back only by a check") {
  const view<const float, dims<3>, cpu> constant = x;  // [2, 3, 4]
  CHECK(constant(1, 1, 1) == 17);
  const view<float, extents<2, dynamic, 4>, cpu> fixed = x;  // [2, 3, 4]
  CHECK(fixed.shape() == x.shape());
  using wrong = view<float, extents<2, dynamic, 5>, cpu>;
  CHECK_THROWS_AS(wrong{x}, error);
  static_assert(!std::is_convertible_v<view<const float, dims<3>, cpu>, view<float, dims<3>, cpu>>);
  static_assert(!std::is_convertible_v<view<float, dims<2>, cpu>, view<float, dims<3>, cpu>>);
  static_assert(!std::is_convertible_v<view<float, dims<1>, cpu>, view<double, dims<1>, cpu>>);
}

TEST_CASE("a view of rank 0 is one element") {
  float number = 3;
  const view<float, extents<>, cpu> x{&number, extents<>{}};  // []
  CHECK(x() == 3);
  CHECK(x.count() == 1);
  CHECK(x.is_contiguous());
}

}  // namespace mtp::test::core_view_cases
