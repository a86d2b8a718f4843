// Random inputs that are the same in every run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mtp/core/random.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::test {

/// `count` numbers, uniform in [low, high); each `stream` is independent of the others.
inline std::vector<double> uniform(index_t count,
                                   std::uint64_t stream,
                                   double low = -1,
                                   double high = 1) {
  const random_stream random(mtp::seed{20240229}, stream);
  std::vector<double> numbers;
  numbers.reserve(static_cast<std::size_t>(count));
  for (index_t i = 0; i < count; ++i) {
    numbers.push_back(low + (high - low) * random.uniform(static_cast<std::uint64_t>(i)));
  }
  return numbers;
}

/// `count` numbers, normal with standard deviation `deviation`.
inline std::vector<double> normal(index_t count, std::uint64_t stream, double deviation = 1) {
  const random_stream random(mtp::seed{20240229}, stream);
  std::vector<double> numbers;
  numbers.reserve(static_cast<std::size_t>(count));
  for (index_t i = 0; i < count; ++i) {
    numbers.push_back(deviation * random.normal(static_cast<std::uint64_t>(i)));
  }
  return numbers;
}

}  // namespace mtp::test
