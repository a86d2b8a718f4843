#include "mtp/backend/cpu/simd.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace mtp::test::cpu_simd_cases {

using namespace cpu_detail;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// The first lane of function(packets whose lanes are all the same).
template <class Function, class... Numbers>
float lane(const Function& function, Numbers... numbers) {
  std::vector<float> result(static_cast<std::size_t>(lanes<float>));
  store<float>(result.data(), function(broadcast<float>(numbers)...));
  return result[0];
}

}  // namespace

TEST_CASE("a packet of bf16 is widened exactly, lane by lane") {
  std::vector<bf16> from;
  for (index_t i = 0; i < lanes<float>; ++i) {
    from.push_back(bf16::from_bits(static_cast<std::uint16_t>(0x3f80 + 77 * i)));
  }
  from[0] = bf16(-0.0f);
  std::vector<float> to(from.size());
  store<float>(to.data(), load<float>(from.data()));
  for (std::size_t i = 0; i < from.size(); ++i) {
    CHECK(to[i] == static_cast<float>(from[i]));
  }
  CHECK(std::signbit(to[0]));
}

TEST_CASE("a row is rounded to bf16 as each of its elements is, and widened exactly") {
  std::vector<float> from;
  for (const std::uint32_t upper : {0u, 1u, 0x7fu, 0x80u, 0x3f80u, 0x3f81u, 0x7f7fu, 0x7f80u}) {
    for (const std::uint32_t lower : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      for (const std::uint32_t sign : {0u, 0x80000000u}) {
        from.push_back(std::bit_cast<float>(sign | upper << 16 | lower));  // NaN among the last
      }
    }
  }
  for (const std::size_t count : {from.size(), from.size() - 5, std::size_t{0}}) {
    std::vector<bf16> to(from.size(), bf16(7));
    convert_row(to.data(), from.data(), static_cast<index_t>(count));
    std::vector<float> wide(from.size(), 7);
    convert_row(wide.data(), to.data(), static_cast<index_t>(count));
    for (std::size_t i = 0; i < from.size(); ++i) {
      const bf16 expected = i < count ? bf16(from[i]) : bf16(7);
      CAPTURE(i);
      CHECK(to[i].bits() == expected.bits());
      CHECK(std::bit_cast<std::uint32_t>(wide[i]) ==
            std::bit_cast<std::uint32_t>(static_cast<float>(expected)));
    }
  }
}

TEST_CASE("the square root is right for 0, subnormal numbers, infinity and NaN as well") {
  const auto root = [](float x) {
    return lane([](const auto& a) { return square_root<float>(a); }, x);
  };
  CHECK(root(4) == 2);
  CHECK(root(0) == 0);
  CHECK(root(std::numeric_limits<float>::denorm_min()) == 0);
  CHECK(root(infinity) == infinity);
  CHECK(std::isnan(root(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("a choice by order takes the second number where one is NaN") {
  const auto choice = [](float a, float c) {
    return lane([](const auto&... all) { return select_less(all...); }, a, c, 1.0f, 2.0f);
  };
  CHECK(choice(3, 4) == 1);
  CHECK(choice(4, 4) == 2);
  CHECK(choice(std::numeric_limits<float>::quiet_NaN(), 4) == 2);
  CHECK(choice(3, std::numeric_limits<float>::quiet_NaN()) == 2);
}

TEST_CASE("reductions of a packet take every lane") {
  std::vector<float> row(static_cast<std::size_t>(lanes<float>));
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i] = 1;
    CHECK(sum_of_lanes<float>(load<float>(row.data())) == static_cast<float>(i + 1));
    row[i] = static_cast<float>(i + 2);
    CHECK(maximum_of_lanes<float>(load<float>(row.data())) == static_cast<float>(i + 2));
    row[i] = 1;
  }
}

TEST_CASE("a row of any length is read and written whole, and nothing behind it") {
  for (index_t count = 0; count <= 3 * lanes<float>; ++count) {
    CAPTURE(count);
    std::vector<float> from(static_cast<std::size_t>(count)), to(from.size() + 1, -1);
    for (std::size_t i = 0; i < from.size(); ++i) {
      from[i] = static_cast<float>(i);
    }
    for_each_packet<float>(count, [&](const auto& load_at, const auto& store_at) {
      store_at(to.data(), add(load_at(from.data()), broadcast<float>(1)));
    });
    bool whole = true;
    for (std::size_t i = 0; i < from.size(); ++i) {
      whole = whole && to[i] == from[i] + 1;
    }
    CHECK(whole);
    CHECK(to.back() == -1);
  }
}

}  // namespace mtp::test::cpu_simd_cases
