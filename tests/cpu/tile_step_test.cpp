// A step of two products of bf16 against its definition, bit by bit.
#include "mtp/backend/cpu/tile_step.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "cpu/chain.hpp"

namespace mtp::test::cpu_tile_step_cases {

using namespace cpu_detail;

namespace {

using step = tile_step<bf16, bf16>;

#if defined(MTP_CPU_HAS_BF16_PRODUCTS)

constexpr float smallest = 0x1p-126f;

float without_subnormal(float x) {
  return std::abs(x) < smallest ? std::copysign(0.0f, x) : x;
}

/// sum + a b, rounded to nearest, with subnormal operands and results as zeros. A result is too
/// small if it is so after rounding to 24 bits, with exponents of any size: here after scaling.
float link(float sum, float a, float b) {
  sum = without_subnormal(sum);
  a = without_subnormal(a);
  b = without_subnormal(b);
  const float plain = std::fma(a, b, sum);
  if (!(std::abs(plain) < 4 * smallest) || a == 0 || b == 0 || std::abs(sum) > 0x1p-60f) {
    return without_subnormal(plain);  // a difference of larger numbers is not small, or zero
  }
  int a_exponent = 0, b_exponent = 0;
  const float a_digits = std::frexp(a, &a_exponent), b_digits = std::frexp(b, &b_exponent);
  constexpr int scale = 200;
  const float scaled = std::fma(
      std::ldexp(a_digits, a_exponent + b_exponent + scale), b_digits, std::ldexp(sum, scale));
  return std::abs(scaled) < std::ldexp(smallest, scale) ? std::copysign(0.0f, scaled)
                                                        : std::ldexp(scaled, -scale);
}

#else

float link(float sum, float a, float b) {
  return cpu_products::multiply_add(a, b, sum);
}

#endif

float definition(float sum, const bf16* a, const bf16* b) {
  return link(link(sum, a[1], b[1]), a[0], b[0]);
}

bool same_number(float a, float b) {
  return cpu_products::same(a, b) || (std::isnan(a) && std::isnan(b));
}

/// What a step makes of a row of a panel that holds one pair in each column.
std::vector<float> steps(const std::vector<float>& sums,
                         const bf16* a,
                         const std::vector<bf16>& rows,
                         bool last = false) {
  std::vector<float> result(sums);
  for (index_t column = 0; column < panel_width<bf16>; column += lanes<float>) {
    auto sum = load<float>(sums.data() + column);
    if (last) {
      step::add(sum, pair_of(*a), step::read_last(rows.data(), column));
    } else {
      step::add(sum, a, step::read(rows.data(), column));
    }
    store<float>(result.data() + column, sum);
  }
  return result;
}

/// Steps whose result is not that of the definition, among random sums and factors.
template <class Sum, class Factor>
index_t wrong_steps(int count, const Sum& random_sum, const Factor& random_factor) {
  constexpr auto width = static_cast<std::size_t>(panel_width<bf16>);
  index_t wrong = 0;
  for (int n = 0; n < count; ++n) {
    std::vector<float> sums;
    std::vector<bf16> rows;
    for (std::size_t i = 0; i < width; ++i) {
      sums.push_back(random_sum());
      rows.push_back(random_factor());
      rows.push_back(random_factor());
    }
    const bf16 a[2] = {random_factor(), random_factor()};
    const std::vector<float> actual = steps(sums, a, rows);
    const std::vector<float> last = steps(sums, a, rows, true);
    for (std::size_t i = 0; i < width; ++i) {
      const bf16 b[2] = {rows[i], rows[i + width]};
      wrong += same_number(actual[i], definition(sums[i], a, b)) ? 0 : 1;
      const bf16 a_last[2] = {a[0], bf16(0)}, b_last[2] = {b[0], bf16(0)};
      wrong += same_number(last[i], definition(sums[i], a_last, b_last)) ? 0 : 1;
    }
  }
  return wrong;
}

}  // namespace

TEST_CASE("a step of bf16 adds the odd product, then the even one") {
  std::mt19937 random(1);
  SUBCASE("of any numbers, infinite ones and NaN included") {
    CHECK(wrong_steps(
              4000,
              [&] { return std::bit_cast<float>(static_cast<std::uint32_t>(random())); },
              [&] { return bf16::from_bits(static_cast<std::uint16_t>(random())); }) == 0);
  }
  SUBCASE("of numbers of one size, whose sums cancel") {
    const auto factor = [&] {
      return bf16::from_bits(
          static_cast<std::uint16_t>(0x3f00 + random() % 0x100 + random() % 2 * 0x8000));
    };
    CHECK(wrong_steps(
              4000, [&] { return factor() * factor(); }, factor) == 0);
  }
  SUBCASE("of products about the smallest normal number") {
    const auto factor = [&] {  // about 2^-63
      return bf16::from_bits(static_cast<std::uint16_t>((0x7f - 64) * 0x80 + random() % 0x100 +
                                                        random() % 2 * 0x8000));
    };
    const auto sum = [&] {  // less than 2^-124, and most of them normal
      return std::bit_cast<float>(
          static_cast<std::uint32_t>(random() % 0x1800000 + random() % 2 * 0x80000000));
    };
    CHECK(wrong_steps(8000, sum, factor) == 0);
  }
  SUBCASE("of sums that rounding takes to the smallest normal number, or not") {
    const auto factor = [&] {  // about 2^-76
      return bf16::from_bits(static_cast<std::uint16_t>((0x7f - 77) * 0x80 + random() % 0x100 +
                                                        random() % 2 * 0x8000));
    };
    const auto sum = [&] {
      return std::bit_cast<float>(
          static_cast<std::uint32_t>(0x800000 + random() % 2 + random() % 2 * 0x80000000));
    };
    CHECK(wrong_steps(8000, sum, factor) == 0);
  }
}

TEST_CASE("the last step of an odd number reads no further, and multiplies zeros by zeros") {
  constexpr auto width = static_cast<std::size_t>(panel_width<bf16>);
  const std::vector<bf16> row(width, bf16(3));  // one row, and nothing behind it
  const std::vector<bf16> a = {bf16(-2)};
  CHECK(steps(std::vector<float>(width, 10), a.data(), row, true) == std::vector<float>(width, 4));
}

TEST_CASE("rows are interleaved element by element, and nothing behind them is written") {
  std::vector<bf16> even, odd, expected;
  for (int i = 0; i < 12; ++i) {
    even.push_back(bf16(static_cast<float>(i)));
    odd.push_back(bf16(static_cast<float>(100 + i)));
    expected.push_back(even.back());
    expected.push_back(odd.back());
  }
  std::vector<bf16> to(26, bf16(-1));
  expected.resize(26, bf16(-1));
  interleave<12>(to.data(), even.data(), odd.data());
  CHECK(to == expected);
}

}  // namespace mtp::test::cpu_tile_step_cases
