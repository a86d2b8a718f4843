// Reference of weights in FP8: numbers by the definition of the format, and weights that tests
// make.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"
#include "support/random.hpp"
#include "support/reference/array.hpp"

namespace mtp::test::reference {

/// (-1)^sign 1.mantissa 2^(exponent - 7), or 0.mantissa 2^-6 for the exponent 0; NaN where all
/// other bits are set.
inline double value_of_e4m3(std::uint8_t bits) {
  const int mantissa = bits & 7, exponent = bits >> 3 & 15;
  const double sign = bits >= 128 ? -1 : 1;
  if (exponent == 15 && mantissa == 7) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  return sign * (exponent == 0 ? mantissa / 8.0 * std::pow(2.0, -6)
                               : (1 + mantissa / 8.0) * std::pow(2.0, exponent - 7));
}

/// A matrix in e4m3 with scales of each row and 128 columns.
struct e4m3_matrix {
  index_t N, K;
  std::vector<std::uint8_t> numbers;  // [N, K]
  std::vector<float> scales;          // [N, ceil(K / 128)]

  index_t groups() const { return ceil_div(K, 128); }
  std::uint8_t& number(index_t n, index_t k) {
    return numbers[static_cast<std::size_t>(n * K + k)];
  }
  double value(index_t n, index_t k) const {
    return value_of_e4m3(numbers[static_cast<std::size_t>(n * K + k)]);
  }
  float& scale(index_t n, index_t g) { return scales[static_cast<std::size_t>(n * groups() + g)]; }
  float scale(index_t n, index_t g) const {
    return scales[static_cast<std::size_t>(n * groups() + g)];
  }
};

/// Numbers of every kind but NaN, and scales of either sign.
inline e4m3_matrix random_e4m3(index_t N, index_t K, std::uint64_t stream) {
  e4m3_matrix made{N, K, {}, {}};
  for (const double number : uniform(N * K, stream, 0, 254)) {
    const auto code = static_cast<int>(number);  // 127 codes of each sign
    made.numbers.push_back(static_cast<std::uint8_t>(code < 127 ? code : code + 1));
  }
  for (const double scale : normal(N * made.groups(), stream + 1, 0.01)) {
    made.scales.push_back(static_cast<float>(scale));
  }
  return made;
}

}  // namespace mtp::test::reference
