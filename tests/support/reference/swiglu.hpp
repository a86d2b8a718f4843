// Reference of ops/swiglu.hpp.
#pragma once

#include <cmath>

#include "support/reference/array.hpp"

namespace mtp::test::reference {

inline double sigmoid(double g) {
  return 1 / (1 + std::exp(-g));
}
inline double silu(double g) {
  return g * sigmoid(g);
}
/// d silu(g) / d g
inline double silu_slope(double g) {
  return sigmoid(g) * (1 + g * (1 - sigmoid(g)));
}

/// y[n, f] = silu(g[n, f]) u[n, f], g and u side by side in gate_up [N, 2F]
inline array<2> swiglu_forward(const array<2>& gate_up) {
  const index_t F = gate_up.size(1) / 2;
  array<2> y({gate_up.size(0), F});
  for (index_t n = 0; n < y.size(0); ++n) {
    for (index_t f = 0; f < F; ++f) {
      y(n, f) = silu(gate_up(n, f)) * gate_up(n, F + f);
    }
  }
  return y;
}

inline array<2> swiglu_backward(const array<2>& dy, const array<2>& gate_up) {
  const index_t F = dy.size(1);
  array<2> d_gate_up(gate_up.sizes);
  for (index_t n = 0; n < dy.size(0); ++n) {
    for (index_t f = 0; f < F; ++f) {
      d_gate_up(n, f) = dy(n, f) * gate_up(n, F + f) * silu_slope(gate_up(n, f));
      d_gate_up(n, F + f) = dy(n, f) * silu(gate_up(n, f));
    }
  }
  return d_gate_up;
}

/// y = x + silu(u)
inline array<2> silu_residual_forward(const array<2>& x, const array<2>& u) {
  array<2> y = x;
  for (std::size_t i = 0; i < y.elements.size(); ++i) {
    y.elements[i] += silu(u.elements[i]);
  }
  return y;
}

/// du = dy silu'(u)
inline array<2> silu_residual_backward(const array<2>& dy, const array<2>& u) {
  array<2> du = dy;
  for (std::size_t i = 0; i < du.elements.size(); ++i) {
    du.elements[i] *= silu_slope(u.elements[i]);
  }
  return du;
}

}  // namespace mtp::test::reference
