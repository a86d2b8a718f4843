// Reference of ops/rope.hpp.
#pragma once

#include <cmath>

#include "support/reference/array.hpp"

namespace mtp::test::reference {

/// angle(p, e) = p theta^(-2e / E)
inline double rope_angle(index_t position, index_t e, index_t head_dim, double theta) {
  return static_cast<double>(position) *
         std::pow(theta, -2.0 * static_cast<double>(e) / static_cast<double>(head_dim));
}

/// Rotates the pairs (e, e + E/2) by direction times the angle of position first + n % length.
inline array<3> rope(
    const array<3>& x, double theta, index_t length, index_t first, double direction = 1) {
  const index_t half = x.size(2) / 2;
  array<3> y(x.sizes);
  for (index_t n = 0; n < x.size(0); ++n) {
    for (index_t h = 0; h < x.size(1); ++h) {
      for (index_t e = 0; e < half; ++e) {
        const double a = direction * rope_angle(first + n % length, e, x.size(2), theta);
        y(n, h, e) = x(n, h, e) * std::cos(a) - x(n, h, e + half) * std::sin(a);
        y(n, h, e + half) = x(n, h, e + half) * std::cos(a) + x(n, h, e) * std::sin(a);
      }
    }
  }
  return y;
}

}  // namespace mtp::test::reference
