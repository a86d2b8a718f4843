// Reference of ops/expert_rows.hpp.
#pragma once

#include <cstddef>
#include <vector>

#include "support/reference/array.hpp"

namespace mtp::test::reference {

/// The pairs of each expert, in order.
inline std::vector<std::vector<index_t>> pairs_of_experts(const array<2>& experts, index_t E) {
  std::vector<std::vector<index_t>> pairs(static_cast<std::size_t>(E));
  for (std::size_t i = 0; i < experts.elements.size(); ++i) {
    pairs[static_cast<std::size_t>(experts.elements[i])].push_back(static_cast<index_t>(i));
  }
  return pairs;
}

/// y[n, c] = residual[n, c] + sum over j of weights[n, j] x[rows[n, j], c]
inline array<2> scatter_rows(const array<2>& residual,
                             const array<2>& x,
                             const array<2>& rows,
                             const array<2>& weights) {
  array<2> y = residual;
  for (index_t n = 0; n < y.size(0); ++n) {
    for (index_t c = 0; c < y.size(1); ++c) {
      for (index_t j = 0; j < rows.size(1); ++j) {
        y(n, c) += weights(n, j) * x(static_cast<index_t>(rows(n, j)), c);
      }
    }
  }
  return y;
}

/// dx[rows[n, j], c] = weights[n, j] dy[n, c]
inline array<2> scattered_gradient(const array<2>& dy,
                                   const array<2>& rows,
                                   const array<2>& weights) {
  array<2> dx({rows.size(0) * rows.size(1), dy.size(1)});
  for (index_t n = 0; n < rows.size(0); ++n) {
    for (index_t j = 0; j < rows.size(1); ++j) {
      for (index_t c = 0; c < dy.size(1); ++c) {
        dx(static_cast<index_t>(rows(n, j)), c) = weights(n, j) * dy(n, c);
      }
    }
  }
  return dx;
}

/// dweights[n, j] = sum over c of dy[n, c] x[rows[n, j], c]
inline array<2> gradient_of_weights(const array<2>& dy, const array<2>& x, const array<2>& rows) {
  array<2> dweights(rows.sizes);
  for (index_t n = 0; n < rows.size(0); ++n) {
    for (index_t j = 0; j < rows.size(1); ++j) {
      for (index_t c = 0; c < dy.size(1); ++c) {
        dweights(n, j) += dy(n, c) * x(static_cast<index_t>(rows(n, j)), c);
      }
    }
  }
  return dweights;
}

}  // namespace mtp::test::reference
