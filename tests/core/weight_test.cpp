#include "mtp/core/weight.hpp"

#include <doctest/doctest.h>

#include <concepts>
#include <cstddef>
#include <set>
#include <utility>
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

TEST_CASE("part of a weight has the same elements in the same places") {
  std::vector<float> storage(1000);
  const weight_view<float, cpu> w(storage.data(), 131, 7);  // [131, 7]
  for (const auto& [first, count] : {std::pair{0, 64}, {64, 64}, {64, 67}, {128, 3}, {0, 131}}) {
    const weight_view<float, cpu> part = w.rows(first, count);  // [count, 7]
    CHECK(part.outputs == count);
    CHECK(part.inputs == 7);
    for (index_t n = 0; n < count; ++n) {
      for (index_t k = 0; k < 7; ++k) {
        CHECK(&part(n, k) == &w(first + n, k));
      }
    }
  }
}

TEST_CASE("a weight is split only where its layout lets it") {
  std::vector<float> storage(1000);
  const weight_view<const float, cpu> w(storage.data(), 131, 7);  // [131, 7]
  CHECK_THROWS_WITH_AS(
      static_cast<void>(w.rows(1, 64)),
      "weight_view: outputs [1, 65) are not a part of a weight of 131 outputs that its layout can "
      "split off",
      error);
  CHECK_THROWS_AS(static_cast<void>(w.rows(64, 3)), error);
  CHECK_THROWS_AS(static_cast<void>(w.rows(64, 68)), error);
  CHECK_THROWS_AS(static_cast<void>(w.rows(-64, 64)), error);
}

TEST_CASE("part of a weight in 8 bits begins at a panel of its bytes") {
  std::vector<float> storage(1000);
  for (const auto format : {quantized_format::int8, quantized_format::e4m3}) {
    const auto bytes_of = [&](index_t outputs) {
      return cpu_detail::cpu_quantize_ops::quantized_weight_bytes(outputs, 7, format);
    };
    std::vector<std::byte> bytes(static_cast<std::size_t>(bytes_of(131)));
    const weight_view<const float, cpu> w(nullptr, 131, 7, bytes.data(), format);  // [131, 7]
    const weight_view<const float, cpu> part = w.rows(64, 67);                     // [67, 7]
    CHECK(part.data == nullptr);
    CHECK(part.format == format);
    CHECK(part.outputs == 67);
    CHECK(part.inputs == 7);
    CHECK(part.quantized == bytes.data() + bytes_of(64));
    CHECK(bytes_of(64) + bytes_of(67) == bytes_of(131));
    const weight_view<const float, cpu> both(storage.data(), 131, 7, bytes.data(), format);
    CHECK(both.rows(64, 67).data == &both(64, 0));
  }
}

}  // namespace mtp::test::core_weight_cases
