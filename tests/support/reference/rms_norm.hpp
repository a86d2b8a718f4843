// Reference of ops/rms_norm.hpp.
#pragma once

#include <cmath>

#include "support/reference/array.hpp"

namespace mtp::test::reference {

/// r[n, h] = 1 / sqrt(mean over c of x[n, h, c]^2 + epsilon)
inline array<2> inverse_rms(const array<3>& x, double epsilon) {
  array<2> r({x.size(0), x.size(1)});
  for (index_t n = 0; n < x.size(0); ++n) {
    for (index_t h = 0; h < x.size(1); ++h) {
      double squares = 0;
      for (index_t c = 0; c < x.size(2); ++c) {
        squares += x(n, h, c) * x(n, h, c);
      }
      r(n, h) = 1 / std::sqrt(squares / static_cast<double>(x.size(2)) + epsilon);
    }
  }
  return r;
}

/// y[n, h, c] = x[n, h, c] r[n, h] weight[c]
inline array<3> rms_norm_forward(const array<3>& x, const array<1>& weight, double epsilon) {
  const array<2> r = inverse_rms(x, epsilon);
  array<3> y(x.sizes);
  for (index_t n = 0; n < x.size(0); ++n) {
    for (index_t h = 0; h < x.size(1); ++h) {
      for (index_t c = 0; c < x.size(2); ++c) {
        y(n, h, c) = x(n, h, c) * r(n, h) * weight(c);
      }
    }
  }
  return y;
}

/// The two terms of dx: r dy[c] weight[c] and x[c] r^3 mean over c' of dy[c'] weight[c'] x[c'], the
/// second times `sign`: -1 gives the gradient; +1 on magnitudes bounds its rounding errors.
inline array<3> rms_norm_backward_input(const array<3>& dy,
                                        const array<3>& x,
                                        const array<2>& r,
                                        const array<1>& weight,
                                        double sign = -1) {
  array<3> dx(x.sizes);
  for (index_t n = 0; n < x.size(0); ++n) {
    for (index_t h = 0; h < x.size(1); ++h) {
      double mean = 0;
      for (index_t c = 0; c < x.size(2); ++c) {
        mean += dy(n, h, c) * weight(c) * x(n, h, c) / static_cast<double>(x.size(2));
      }
      for (index_t c = 0; c < x.size(2); ++c) {
        dx(n, h, c) =
            r(n, h) * dy(n, h, c) * weight(c) + sign * x(n, h, c) * std::pow(r(n, h), 3) * mean;
      }
    }
  }
  return dx;
}

/// dweight[c] = sum over n, h of dy[n, h, c] x[n, h, c] r[n, h]
inline array<1> rms_norm_backward_weight(const array<3>& dy, const array<3>& x, const array<2>& r) {
  array<1> dweight({x.size(2)});
  for (index_t n = 0; n < x.size(0); ++n) {
    for (index_t h = 0; h < x.size(1); ++h) {
      for (index_t c = 0; c < x.size(2); ++c) {
        dweight(c) += dy(n, h, c) * x(n, h, c) * r(n, h);
      }
    }
  }
  return dweight;
}

}  // namespace mtp::test::reference
