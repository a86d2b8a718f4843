#include "mtp/core/random.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <vector>

namespace mtp::test::core_random_cases {

TEST_CASE("Philox4x32-10 gives the published known answers") {
  using words = philox::counter_type;
  constexpr std::uint32_t ones = 0xffffffff;
  CHECK(philox::block({{0, 0, 0, 0}}, {{0, 0}}) ==
        words{{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  CHECK(philox::block({{ones, ones, ones, ones}}, {{ones, ones}}) ==
        words{{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  CHECK(philox::block({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
                      {{0xa4093822, 0x299f31d0}}) ==
        words{{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST_CASE("a stream puts position, stream and seed into counter and key") {
  constexpr std::uint64_t seed_bits = 0x299f31d0a4093822, stream = 0x0370734413198a2e;
  constexpr std::uint64_t block = 0x05a308d3243f6a88;
  const random_stream random(mtp::seed{seed_bits}, stream);
  const auto expected =
      philox::block({{0x243f6a88, 0x05a308d3, 0x13198a2e, 0x03707344}}, {{0xa4093822, 0x299f31d0}});
  for (std::uint64_t i = 0; i < 4; ++i) {
    CHECK(random.bits(block * 4 + i) == expected.words[i]);
  }
}

TEST_CASE("numbers depend on seed, stream and position alone") {
  const random_stream a(mtp::seed{1}, 2), again(mtp::seed{1}, 2);
  const random_stream other_seed(mtp::seed{2}, 2), other_stream(mtp::seed{1}, 3);
  CHECK(a.bits(1000) == again.bits(1000));
  CHECK(a.bits(7) == again.bits(7));
  int equal = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    equal += (a.bits(i) == other_seed.bits(i)) + (a.bits(i) == other_stream.bits(i)) +
             (a.bits(i) == a.bits(i + 1));
  }
  CHECK(equal == 0);
}

TEST_CASE("uniform numbers lie in [0, 1) and fill it evenly") {
  const random_stream random(mtp::seed{42}, 0);
  constexpr int count = 100000, bins = 10;
  std::array<int, bins> hits{};
  double sum = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const double value = random.uniform(i);
    REQUIRE(value >= 0);
    REQUIRE(value < 1);
    sum += value;
    ++hits[static_cast<std::size_t>(value * bins)];
  }
  // Five standard deviations of the mean and of a bin.
  CHECK(std::abs(sum / count - 0.5) < 5 / std::sqrt(12.0 * count));
  for (const int hit : hits) {
    CHECK(std::abs(hit - count / bins) < 5 * std::sqrt(count * 0.1 * 0.9));
  }
}

TEST_CASE("below stays below and reaches every number") {
  const random_stream random(mtp::seed{42}, 1);
  std::vector<int> hits(7);
  for (std::uint64_t i = 0; i < 7000; ++i) {
    const std::uint64_t value = random.below(i, 7);
    REQUIRE(value < 7);
    ++hits[value];
  }
  for (const int hit : hits) {
    CHECK(std::abs(hit - 1000) < 5 * std::sqrt(7000.0 * 6 / 49));
  }
  CHECK(random.below(5, 1) == 0);
  CHECK(random.below(5, ~std::uint64_t{0}) < ~std::uint64_t{0});
}

TEST_CASE("normal numbers have the moments of the normal distribution") {
  const random_stream random(mtp::seed{42}, 2);
  constexpr int count = 100000;
  std::array<double, 5> moment{};
  for (std::uint64_t i = 0; i < count; ++i) {
    double power = 1;
    const double value = random.normal(i);
    REQUIRE(std::isfinite(value));
    for (double& m : moment) {
      m += power / count;
      power *= value;
    }
  }
  // Five standard deviations: the variances of x, x^2, x^3 and x^4 are 1, 2, 15 and 96.
  const double unit = 5 / std::sqrt(static_cast<double>(count));
  CHECK(std::abs(moment[1]) < unit);
  CHECK(std::abs(moment[2] - 1) < unit * std::sqrt(2.0));
  CHECK(std::abs(moment[3]) < unit * std::sqrt(15.0));
  CHECK(std::abs(moment[4] - 3) < unit * std::sqrt(96.0));
}

TEST_CASE("random numbers can be had at compile time") {
  static_assert(random_stream(mtp::seed{0}, 0).bits(0) == 0x6627e8d5);
  static_assert(random_stream(mtp::seed{0}, 0).uniform(0) == 0x6627e8d5p-32);
}

}  // namespace mtp::test::core_random_cases
