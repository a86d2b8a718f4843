#include "mtp/core/weight.hpp"

#include <doctest/doctest.h>

#include <concepts>
#include <cstddef>
#include <set>
#include <vector>

#include "mtp/backend/cpu.hpp"

namespace mtp::test::core_weight_cases {

TEST_CASE("each element of a weight has a place of its own in the storage") {
  std::vector<float> storage(1000);
  const weight_view<float, cpu> w(storage.data(), 37, 5);  // [37, 5]
  CHECK(w.storage() >= 37 * 5);
  REQUIRE(static_cast<std::size_t>(w.storage()) <= storage.size());
  std::set<const float*> places;
  for (index_t n = 0; n < w.outputs; ++n) {
    for (index_t k = 0; k < w.inputs; ++k) {
      places.insert(&w(n, k));
    }
  }
  CHECK(places.size() == 37 * 5);
  CHECK(*places.begin() == storage.data());
  CHECK(*places.rbegin() < storage.data() + w.storage());
}

TEST_CASE("a weight becomes one that is read, and not the other way round") {
  std::vector<float> storage(1000);
  const weight_view<float, cpu> w(storage.data(), 3, 2);  // [3, 2]
  const weight_view<const float, cpu> read = w;           // [3, 2]
  CHECK(read.data == w.data);
  CHECK(read.outputs == 3);
  CHECK(read.inputs == 2);
  CHECK(&read(2, 1) == &w(2, 1));
  static_assert(!std::convertible_to<weight_view<const float, cpu>, weight_view<float, cpu>>);
  static_assert(!std::convertible_to<weight_view<float, cpu>, weight_view<const double, cpu>>);
  CHECK(weight_view<float, cpu>().data == nullptr);
}

}  // namespace mtp::test::core_weight_cases
