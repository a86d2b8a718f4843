#include "mtp/core/nested_list.hpp"

#include <doctest/doctest.h>

#include <array>
#include <concepts>
#include <initializer_list>
#include <vector>

namespace mtp::test::core_nested_list_cases {

using mtp::detail::nested_list;
using sizes = std::array<index_t, 2>;

TEST_CASE("elements that are only stored are written in their accumulator type") {
  static_assert(std::same_as<nested_list<double, 1>, std::initializer_list<double>>);
  static_assert(std::same_as<nested_list<bf16, 1>, std::initializer_list<float>>);
  static_assert(
      std::same_as<nested_list<token_t, 2>, std::initializer_list<std::initializer_list<token_t>>>);
}

TEST_CASE("a list has the sizes of its first parts, and 0 behind an empty one") {
  const auto sizes_of = [](nested_list<int, 2> list) {
    return mtp::detail::sizes_of_list<2>(list);
  };
  CHECK(sizes_of({{1, 2, 3}, {4, 5, 6}}) == sizes{2, 3});
  CHECK(sizes_of({{1}, {2, 3}}) == sizes{2, 1});
  CHECK(sizes_of({{}, {}}) == sizes{2, 0});
  CHECK(sizes_of({}) == sizes{0, 0});
}

TEST_CASE("elements are stored row by row, and none of a row of another length") {
  const sizes two_by_two{2, 2};
  std::vector<int> stored;
  const auto store = [&](nested_list<int, 2> list) {
    mtp::detail::for_each_listed<2>(
        two_by_two.data(), list, [&](int element) { stored.push_back(element); });
  };
  store({{1, 2}, {3, 4}});
  CHECK(stored == std::vector{1, 2, 3, 4});
  stored.clear();
  CHECK_THROWS_AS(store({{1, 2}, {3}}), error);
  CHECK(stored == std::vector{1, 2});
  CHECK_THROWS_AS(store({{1, 2}}), error);
}

}  // namespace mtp::test::core_nested_list_cases
