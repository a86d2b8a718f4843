// Bounds on rounding errors, derived from what was computed and in which type.
//
// After Higham 2002, "Accuracy and Stability of Numerical Algorithms", chapter 3: k roundings in a
// row, each of relative size u at most, change a value by a factor within 1 +- gamma_k, gamma_k = k
// u / (1 - k u).
#pragma once

#include <cmath>
#include <limits>
#include <vector>

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

/// The error of a result that k roundings in accumulate_t<S> led to, stored as S. `magnitude` is
/// the sum of the magnitudes of its terms, `value` the result.
template <scalar S>
double result_bound(index_t k, double magnitude, double value) {
  const double error = dot_bound(k, unit_roundoff<accumulate_t<S>>, magnitude) + smallest_number<S>;
  const bool rounded = unit_roundoff<S> > unit_roundoff<accumulate_t<S>>;
  return error + (rounded ? unit_roundoff<S> * (std::abs(value) + error) : 0);
}

/// The same for each element of two arrays of the references.
template <scalar S, class Array>
std::vector<double> result_bounds(index_t k, const Array& magnitudes, const Array& values) {
  std::vector<double> bounds;
  for (std::size_t i = 0; i < values.elements.size(); ++i) {
    bounds.push_back(result_bound<S>(k, magnitudes.elements[i], values.elements[i]));
  }
  return bounds;
}

/// The error of storing as S what lies within `error` of `value`.
template <scalar S>
double stored_bound(double value, double error) {
  return error + unit_roundoff<S> * (std::abs(value) + error) + smallest_number<S>;
}

}  // namespace mtp::test
