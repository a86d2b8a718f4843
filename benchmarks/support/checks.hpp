// What benchmarks of every backend share: checks before anything is timed, and medians.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace mtp::bench {

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Ends a benchmark with an error unless |actual - expected| <= bound; NaN does not pass.
inline bool near_enough(
    benchmark::State& state, const char* what, double actual, double expected, double bound) {
  if (std::abs(actual - expected) <= bound) {
    return true;
  }
  const std::string message = std::string("wrong before timing: ") + what + " is " +
                              std::to_string(actual) + ", expected " + std::to_string(expected);
  state.SkipWithError(message.c_str());
  return false;
}

}  // namespace mtp::bench
