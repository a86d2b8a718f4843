// Reference of ops/linear.hpp.
#pragma once

#include "support/reference/array.hpp"

namespace mtp::test::reference {

/// y[m, n] = sum over k of W[n, k] x[m, k]
inline array<2> linear_forward(const array<2>& x, const array<2>& w) {
  array<2> y({x.size(0), w.size(0)});
  for (index_t m = 0; m < y.size(0); ++m) {
    for (index_t n = 0; n < y.size(1); ++n) {
      for (index_t k = 0; k < x.size(1); ++k) {
        y(m, n) += w(n, k) * x(m, k);
      }
    }
  }
  return y;
}

/// y[m, n] = y[m, n] + bias[n]
inline array<2> add_bias(array<2> y, const array<1>& bias) {
  for (index_t m = 0; m < y.size(0); ++m) {
    for (index_t n = 0; n < y.size(1); ++n) {
      y(m, n) += bias(n);
    }
  }
  return y;
}

/// dx[m, k] = sum over n of dy[m, n] W[n, k]
inline array<2> linear_backward_input(const array<2>& dy, const array<2>& w) {
  array<2> dx({dy.size(0), w.size(1)});
  for (index_t m = 0; m < dx.size(0); ++m) {
    for (index_t k = 0; k < dx.size(1); ++k) {
      for (index_t n = 0; n < dy.size(1); ++n) {
        dx(m, k) += dy(m, n) * w(n, k);
      }
    }
  }
  return dx;
}

/// dW[n, k] = sum over m of dy[m, n] x[m, k]
inline array<2> linear_backward_weight(const array<2>& dy, const array<2>& x) {
  array<2> dw({dy.size(1), x.size(1)});
  for (index_t n = 0; n < dw.size(0); ++n) {
    for (index_t k = 0; k < dw.size(1); ++k) {
      for (index_t m = 0; m < dy.size(0); ++m) {
        dw(n, k) += dy(m, n) * x(m, k);
      }
    }
  }
  return dw;
}

/// dbias[n] = sum over m of dy[m, n]
inline array<1> linear_backward_bias(const array<2>& dy) {
  array<1> dbias({dy.size(1)});
  for (index_t n = 0; n < dbias.size(0); ++n) {
    for (index_t m = 0; m < dy.size(0); ++m) {
      dbias(n) += dy(m, n);
    }
  }
  return dbias;
}

}  // namespace mtp::test::reference
