// Reductions of a list of numbers, one number after the other.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include "mtp/core/scalar.hpp"

namespace mtp::test::reference {

struct reductions {
  double sum = 0;
  double magnitude = 0;  // sum of |x|
  double maximum = -std::numeric_limits<double>::infinity();
  double minimum = std::numeric_limits<double>::infinity();
  index_t argmax = -1;
};

inline reductions reduce(std::span<const double> x) {
  reductions result;
  bool nan = false;
  for (std::size_t i = 0; i < x.size(); ++i) {
    result.sum += x[i];
    result.magnitude += std::abs(x[i]);
    if (std::isnan(x[i])) {
      nan = true;
      continue;
    }
    if (result.argmax < 0 || x[i] > x[static_cast<std::size_t>(result.argmax)]) {
      result.argmax = static_cast<index_t>(i);
    }
    result.maximum = std::fmax(result.maximum, x[i]);
    result.minimum = std::fmin(result.minimum, x[i]);
  }
  if (nan) {
    result.maximum = result.minimum = std::numeric_limits<double>::quiet_NaN();
  }
  return result;
}

}  // namespace mtp::test::reference
