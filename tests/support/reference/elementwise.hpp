// Operations on each element by itself, in double.
#pragma once

#include <cstddef>
#include <vector>

namespace mtp::test::reference {

/// y[i] = function(a[i], b[i])
template <class Function>
std::vector<double> elementwise(const Function& function,
                                const std::vector<double>& a,
                                const std::vector<double>& b) {
  std::vector<double> y;
  for (std::size_t i = 0; i < a.size(); ++i) {
    y.push_back(function(a[i], b[i]));
  }
  return y;
}

/// `row` repeated until it has `count` elements.
inline std::vector<double> repeated(const std::vector<double>& row, std::size_t count) {
  std::vector<double> y;
  while (y.size() < count) {
    y.insert(y.end(), row.begin(), row.end());
  }
  return y;
}

}  // namespace mtp::test::reference
