// Reference of ops/linear_cross_entropy.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "support/reference/array.hpp"
#include "support/reference/linear.hpp"

namespace mtp::test::reference {

/// Targets [R, J] in row-major order; negative: none.
using target_list = std::vector<token_t>;

/// log(sum over v of exp z[r, v])
inline double log_sum_exp(const array<2>& z, index_t r) {
  double maximum = z(r, 0), sum = 0;
  for (index_t v = 0; v < z.size(1); ++v) {
    maximum = std::max(maximum, z(r, v));
  }
  for (index_t v = 0; v < z.size(1); ++v) {
    sum += std::exp(z(r, v) - maximum);
  }
  return maximum + std::log(sum);
}

/// losses[r, j] = log_sum_exp z[r] - z[r, targets[r, j]]; 0 where there is no target
inline array<2> cross_entropy(const array<2>& z, const target_list& targets, index_t J) {
  array<2> losses({z.size(0), J});
  for (index_t r = 0; r < z.size(0); ++r) {
    const double normalizer = log_sum_exp(z, r);
    for (index_t j = 0; j < J; ++j) {
      const token_t target = targets[static_cast<std::size_t>(r * J + j)];
      losses(r, j) = target < 0 ? 0 : normalizer - z(r, target);
    }
  }
  return losses;
}

/// The gradient of  sum over r, j of weights[r, j] losses[r, j]  by z:
/// dz[r, v] = sum over j with a target of weights[r, j] (softmax(z[r])[v] - [v = targets[r, j]])
inline array<2> cross_entropy_backward(const array<2>& z,
                                       const target_list& targets,
                                       const array<2>& weights) {
  const index_t J = weights.size(1);
  array<2> dz(z.sizes);
  for (index_t r = 0; r < z.size(0); ++r) {
    const double normalizer = log_sum_exp(z, r);
    for (index_t j = 0; j < J; ++j) {
      const token_t target = targets[static_cast<std::size_t>(r * J + j)];
      if (target < 0) {
        continue;
      }
      for (index_t v = 0; v < z.size(1); ++v) {
        dz(r, v) += weights(r, j) * std::exp(z(r, v) - normalizer);
      }
      dz(r, target) -= weights(r, j);
    }
  }
  return dz;
}

/// The lowest index of the largest number of each row; NaN never; -1 if there is none.
inline std::vector<token_t> predict(const array<2>& z) {
  std::vector<token_t> predicted;
  for (index_t r = 0; r < z.size(0); ++r) {
    token_t best = -1;
    for (index_t v = 0; v < z.size(1); ++v) {
      if (!std::isnan(z(r, v)) && (best < 0 || z(r, v) > z(r, best))) {
        best = static_cast<token_t>(v);
      }
    }
    predicted.push_back(best);
  }
  return predicted;
}

}  // namespace mtp::test::reference
