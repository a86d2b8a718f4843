// The product of two matrices, as slow and as plain as it gets.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "mtp/core/scalar.hpp"

namespace mtp::reference {

/// Sums of products, and the sums of their absolute values, which bounds on rounding errors are
/// made of.
struct products {
  std::vector<double> value;
  std::vector<double> magnitude;
};

/// value[m, n] = start[m, n] + sum over k of a[m, k] b[k, n]; start may be empty: zero.
inline products matmul(const std::vector<double>& a,  // [M, K]
                       const std::vector<double>& b,  // [K, N]
                       index_t M,
                       index_t N,
                       index_t K,
                       const std::vector<double>& start = {}) {
  products c;
  for (index_t m = 0; m < M; ++m) {
    for (index_t n = 0; n < N; ++n) {
      double sum = start.empty() ? 0 : start[static_cast<std::size_t>(m * N + n)];
      double magnitude = std::abs(sum);
      for (index_t k = 0; k < K; ++k) {
        const double product =
            a[static_cast<std::size_t>(m * K + k)] * b[static_cast<std::size_t>(k * N + n)];
        sum += product;
        magnitude += std::abs(product);
      }
      c.value.push_back(sum);
      c.magnitude.push_back(magnitude);
    }
  }
  return c;
}

}  // namespace mtp::reference
