// Softmax of the rows of a matrix and its gradient, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "mtp/core/scalar.hpp"

namespace mtp::test::reference {

/// y[r, c] = exp(x[r, c]) / sum over c' of exp(x[r, c']); x [rows, C]
inline std::vector<double> softmax(std::span<const double> x, index_t C) {
  std::vector<double> y(x.begin(), x.end());
  for (auto row = y.begin(); row != y.end(); row += C) {
    const double largest = *std::max_element(row, row + C);
    double sum = 0;
    for (index_t c = 0; c < C; ++c) {
      row[c] = std::exp(row[c] - largest);
      sum += row[c];
    }
    for (index_t c = 0; c < C; ++c) {
      row[c] /= sum;
    }
  }
  return y;
}

/// dx[r, i] = sum over j of dy[r, j] y[r, j] ((i == j) - y[r, i]); dy, y [rows, C]
inline std::vector<double> softmax_gradient(std::span<const double> dy,
                                            std::span<const double> y,
                                            index_t C) {
  std::vector<double> dx(y.size(), 0.0);
  const auto width = static_cast<std::size_t>(C);
  for (std::size_t row = 0; row < y.size(); row += width) {
    for (std::size_t i = row; i < row + width; ++i) {
      for (std::size_t j = row; j < row + width; ++j) {
        dx[i] += dy[j] * y[j] * ((i == j ? 1.0 : 0.0) - y[i]);
      }
    }
  }
  return dx;
}

}  // namespace mtp::test::reference
