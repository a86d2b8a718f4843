// A figure that was measured several times.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace example {

/// The middle of the measurements, and how far they spread. NaN: not measured.
struct measured {
  double median = std::numeric_limits<double>::quiet_NaN();
  double lowest = median, highest = median;

  bool is_known() const { return std::isfinite(median); }
};

/// Of an even number of values, the median is the mean of the two in the middle. Not known if a
/// value is not finite, or if there is none.
inline measured summary_of(std::vector<double> values) {
  for (const double value : values) {
    if (!std::isfinite(value)) return {};
  }
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {median, values.front(), values.back()};
}

}  // namespace example
