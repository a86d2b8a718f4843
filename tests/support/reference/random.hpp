// Normal random numbers in extended precision, from words of Philox.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "mtp/core/random.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::test::reference {

/// A normal number, and the length of the vector whose first coordinate it is: errors of the angle
/// count in proportion to that.
struct normal_number {
  double value, radius;
};

/// Box and Muller at `count` positions: u and v are the first two words of each position's block.
inline std::vector<normal_number> normal(const random_stream& random, index_t count) {
  std::vector<normal_number> numbers;
  for (index_t i = 0; i < count; ++i) {
    const auto word = static_cast<std::uint64_t>(4 * i);
    const long double u = (static_cast<long double>(random.bits(word)) + 0.5L) / 4294967296.0L;
    const long double v = static_cast<long double>(random.bits(word + 1)) / 4294967296.0L;
    const long double radius = std::sqrt(-2 * std::log(u));
    const long double angle = 2 * 3.14159265358979323846264338327950288L * v;
    numbers.push_back({static_cast<double>(radius * std::cos(angle)), static_cast<double>(radius)});
  }
  return numbers;
}

}  // namespace mtp::test::reference
