// Gradients against central differences in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "support/compare.hpp"
#include "support/random.hpp"

namespace mtp::test {

struct gradcheck_options {
  double step = 1e-3;      ///< of the differences, relative to max(1, |x|)
  double noise = 0x1p-46;  ///< relative rounding error of the function, 128 u of double by default
  double error = 0;        ///< absolute error that each element of the gradient may have
  index_t all_coordinates = 256;  ///< sizes up to which every coordinate is checked
  int directions = 3;             ///< random directions that are checked besides
};

namespace detail {

struct difference {
  double slope;
  double bound;
};

/// The slope of f at x along `direction`: central differences with step h and h/2, extrapolated.
/// The bound is a hundredth of what the extrapolation changed (its own error is smaller by a factor
/// of about h^2) plus the rounding errors of f, divided by the step.
template <class Function>
difference directional(const Function& f,
                       std::span<const double> x,
                       const std::vector<double>& direction,
                       double h,
                       double noise) {
  std::vector<double> moved(x.begin(), x.end());
  double largest = 0;
  const auto central = [&](double step) {
    double sides[2];
    for (int side = 0; side < 2; ++side) {
      for (std::size_t i = 0; i < moved.size(); ++i) {
        moved[i] = x[i] + (side == 0 ? step : -step) * direction[i];
      }
      sides[side] = f(std::span<const double>(moved));
      largest = std::max(largest, std::abs(sides[side]));
    }
    return (sides[0] - sides[1]) / (2 * step);
  };
  const double coarse = central(h), fine = central(h / 2);
  return {fine + (fine - coarse) / 3, 0.01 * std::abs(fine - coarse) + 4 * noise * largest / h};
}

}  // namespace detail

/// Compares `gradient` with the gradient of f: double f(std::span<const double>) at x. Small inputs
/// are checked coordinate by coordinate; random directions catch what a single coordinate cannot
/// reach.
template <class Function>
comparison gradient_matches(const Function& f,
                            const std::vector<double>& x,
                            const std::vector<double>& gradient,
                            const gradcheck_options& options = {}) {
  if (gradient.size() != x.size()) {
    return detail::different_counts(gradient.size(), x.size());
  }
  std::vector<double> actual, expected, bound;
  const auto check_along = [&](const std::vector<double>& direction, double h) {
    const auto [slope, slope_bound] = detail::directional(f, x, direction, h, options.noise);
    double given = 0, magnitude = 0, error = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      given += gradient[i] * direction[i];
      magnitude += std::abs(gradient[i] * direction[i]);
      error += options.error * std::abs(direction[i]);
    }
    actual.push_back(given);
    expected.push_back(slope);
    bound.push_back(slope_bound + error +
                    options.noise * static_cast<double>(x.size()) * magnitude);
  };
  if (static_cast<index_t>(x.size()) <= options.all_coordinates) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      std::vector<double> direction(x.size(), 0.0);
      direction[i] = 1;
      check_along(direction, options.step * std::max(1.0, std::abs(x[i])));
    }
  }
  for (int d = 0; d < options.directions && !x.empty(); ++d) {
    check_along(normal(static_cast<index_t>(x.size()),
                       7000 + static_cast<std::uint64_t>(d),
                       1 / std::sqrt(static_cast<double>(x.size()))),
                options.step);
  }
  return within(actual, expected, bound);
}

}  // namespace mtp::test
