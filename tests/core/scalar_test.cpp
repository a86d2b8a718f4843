#include "mtp/core/scalar.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

namespace mtp::test::core_scalar_cases {

namespace {

float float_of(std::uint32_t bits) {
  return std::bit_cast<float>(bits);
}
std::uint16_t rounded(std::uint32_t bits) {
  return bf16(float_of(bits)).bits();
}

// The rule, stated with distances instead of bits: the nearer neighbour, and at equal distance the
// one whose last bit is zero. `low` and the next bf16 enclose the value; both are finite.
std::uint16_t nearest(float value, std::uint16_t low) {
  const auto high = static_cast<std::uint16_t>(low + 1);
  const double below =
      std::abs(static_cast<double>(value) - static_cast<float>(bf16::from_bits(low)));
  const double above =
      std::abs(static_cast<float>(bf16::from_bits(high)) - static_cast<double>(value));
  if (below != above) {
    return below < above ? low : high;
  }
  return low % 2 == 0 ? low : high;
}

}  // namespace

TEST_CASE("every bf16 survives the way through float") {
  for (std::uint32_t half = 0; half <= 0xffff; ++half) {
    const bf16 value = bf16::from_bits(static_cast<std::uint16_t>(half));
    const auto wide = static_cast<float>(value);
    CAPTURE(half);
    if (std::isnan(wide)) {
      REQUIRE(std::isnan(static_cast<float>(bf16(wide))));
    } else {
      REQUIRE(bf16(wide).bits() == half);
    }
  }
}

TEST_CASE("bf16 rounds to nearest, ties to even, between all neighbours") {
  int wrong = 0;
  for (std::uint32_t half = 0; half <= 0xffff; ++half) {
    const std::uint32_t magnitude = half & 0x7fff;
    if (magnitude >= 0x7f7f) {
      continue;  // the largest finite number, infinity and NaN have their own tests
    }
    for (const std::uint32_t rest : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const std::uint32_t bits = half << 16 | rest;
      wrong += rounded(bits) != nearest(float_of(bits), static_cast<std::uint16_t>(half));
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("bf16 overflows to infinity where rounding says so") {
  CHECK(rounded(0x7f7f'7fff) == 0x7f7f);
  CHECK(rounded(0x7f7f'8000) == 0x7f80);
  CHECK(rounded(0xff7f'ffff) == 0xff80);
  CHECK(rounded(0x7f80'0000) == 0x7f80);
  CHECK(rounded(0xff80'0000) == 0xff80);
}

TEST_CASE("NaN stays NaN in bf16, with its sign, and becomes quiet") {
  for (const std::uint32_t bits : {0x7fc0'0000u,
                                   0x7f80'0001u,
                                   0x7fff'ffffu,
                                   0xffc0'0000u,
                                   0xff80'0001u,
                                   0xffff'ffffu,
                                   0x7f80'ffffu}) {
    CAPTURE(bits);
    const std::uint16_t half = rounded(bits);
    CHECK((half & 0x7f80) == 0x7f80);
    CHECK((half & 0x0040) != 0);
    CHECK((half >> 15) == (bits >> 31));
  }
}

TEST_CASE("concepts and accumulate_t know the three element types") {
  static_assert(scalar<double> && scalar<float> && scalar<bf16>);
  static_assert(!scalar<int> && !scalar<const float> && !scalar<token_t>);
  static_assert(real<float> && real<double> && !real<bf16>);
  static_assert(std::same_as<accumulate_t<bf16>, float> &&
                std::same_as<accumulate_t<float>, float> &&
                std::same_as<accumulate_t<double>, double>);
  static_assert(sizeof(bf16) == 2 && std::is_trivially_copyable_v<bf16>);
}

TEST_CASE("round_up and ceil_div round to the next multiple") {
  static_assert(round_up(0, 64) == 0 && round_up(1, 64) == 64 && round_up(64, 64) == 64);
  static_assert(ceil_div(0, 3) == 0 && ceil_div(1, 3) == 1 && ceil_div(3, 3) == 1 &&
                ceil_div(4, 3) == 2);
}

TEST_CASE("round_up and ceil_div hold up to the largest size") {
  constexpr index_t most = (std::numeric_limits<index_t>::max)();
  static_assert(ceil_div(most, 1) == most && ceil_div(most, most) == 1 &&
                ceil_div(most, 2) == 1 + most / 2);
  static_assert(ceil_div(most - 1, most) == 1 && ceil_div(0, most) == 0);
  constexpr index_t largest = most / 64 * 64;  // the last multiple that fits
  static_assert(round_up(largest, 64) == largest && round_up(largest - 1, 64) == largest &&
                round_up(most, 1) == most);
}

}  // namespace mtp::test::core_scalar_cases
