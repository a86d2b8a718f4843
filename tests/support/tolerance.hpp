// Bounds on rounding errors, derived from what was computed and in which type.
//
// After Higham 2002, "Accuracy and Stability of Numerical Algorithms", chapter 3: k roundings in a
// row, each of relative size u at most, change a value by a factor within 1 +- gamma_k, gamma_k = k
// u / (1 - k u).
#pragma once

#include <cmath>
#include <limits>

#include "mtp/core/scalar.hpp"

namespace mtp::test {

/// u: the largest relative error of one rounding to nearest.
template <scalar S>
inline constexpr double unit_roundoff = 0x1p-53;
template <>
inline constexpr double unit_roundoff<float> = 0x1p-24;
template <>
inline constexpr double unit_roundoff<bf16> = 0x1p-8;

/// The smallest positive number, where errors stop being relative.
template <scalar S>
inline constexpr double smallest_number = std::numeric_limits<double>::denorm_min();
template <>
inline constexpr double smallest_number<float> = 0x1p-149;
template <>
inline constexpr double smallest_number<bf16> = 0x1p-133;

/// The relative error of `roundings` roundings in a row.
inline double gamma(double roundings, double u) {
  return roundings * u / (1 - roundings * u);
}

/// The error of a sum of k products in any order, with the final rounding, plus what the reference
/// in double may be off itself. `magnitude` is the sum of |a| |b|.
inline double dot_bound(index_t k, double u, double magnitude) {
  const auto roundings = static_cast<double>(k + 1);
  return gamma(roundings, u) * magnitude + gamma(roundings, 0x1p-53) * magnitude;
}

/// The error of a sum of k numbers in any order. `magnitude` is the sum of |x|.
inline double sum_bound(index_t k, double u, double magnitude) {
  return dot_bound(k, u, magnitude);
}

/// The error of storing as S what lies within `error` of `value`.
template <scalar S>
double stored_bound(double value, double error) {
  return error + unit_roundoff<S> * (std::abs(value) + error) + smallest_number<S>;
}

}  // namespace mtp::test
