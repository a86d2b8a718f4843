// Reference of ops/head_linear.hpp.
#pragma once

#include "support/reference/array.hpp"

namespace mtp::test::reference {

/// y[m, h, n] = sum over k of W[h N + n, k] x[m, h, k]
inline array<3> head_linear_forward(const array<3>& x, const array<2>& w) {
  const index_t M = x.size(0), H = x.size(1), N = w.size(0) / H;
  array<3> y({M, H, N});
  for (index_t m = 0; m < M; ++m) {
    for (index_t h = 0; h < H; ++h) {
      for (index_t n = 0; n < N; ++n) {
        for (index_t k = 0; k < x.size(2); ++k) {
          y(m, h, n) += w(h * N + n, k) * x(m, h, k);
        }
      }
    }
  }
  return y;
}

/// dx[m, h, k] = sum over n of dy[m, h, n] W[h N + n, k]
inline array<3> head_linear_backward_input(const array<3>& dy, const array<2>& w) {
  const index_t M = dy.size(0), H = dy.size(1), N = dy.size(2);
  array<3> dx({M, H, w.size(1)});
  for (index_t m = 0; m < M; ++m) {
    for (index_t h = 0; h < H; ++h) {
      for (index_t k = 0; k < w.size(1); ++k) {
        for (index_t n = 0; n < N; ++n) {
          dx(m, h, k) += dy(m, h, n) * w(h * N + n, k);
        }
      }
    }
  }
  return dx;
}

}  // namespace mtp::test::reference
