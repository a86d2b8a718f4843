// Operations on elements and on rows. Contracts: mtp/ops/elementwise.hpp, rms_norm.hpp, rope.hpp,
// swiglu.hpp.
#pragma once

#include <cmath>

#include "naive.hpp"

namespace naive_types {

/// Element number i of a view of any rank and strides, in row-major order.
template <class View>
typename View::element_type& element(const View& view, index_t i) {
  index_t offset = 0;
  for (int d = View::rank; d-- > 0; i /= view.extent(d)) {
    offset += i % view.extent(d) * view.stride(d);
  }
  return view.data()[offset];
}

inline double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}
inline double silu(double x) {
  return x * sigmoid(x);
}
inline double silu_slope(double x) {
  return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
}

struct row_ops {
  template <class Y>
  static void fill(context&, const Y& y, double value) {
    for (index_t i = 0; i < y.count(); ++i) element(y, i) = value;
  }
  template <class Y, class X>
  static void copy(context&, const Y& y, const X& x) {
    for (index_t i = 0; i < y.count(); ++i) element(y, i) = element(x, i);
  }
  template <class Y, class A, class B>
  static void add(context&, const Y& y, const A& a, const B& b) {
    for (index_t i = 0; i < y.count(); ++i) element(y, i) = element(a, i) + element(b, i);
  }

  static void rms_norm_forward(
      context&, heads y, matrix inv_rms, in_heads x, in_vector scale, double epsilon) {
    const index_t C = x.extent(2);
    for (index_t n = 0; n < x.extent(0); ++n) {
      for (index_t h = 0; h < x.extent(1); ++h) {
        double squares = 0;
        for (index_t c = 0; c < C; ++c) squares += x(n, h, c) * x(n, h, c);
        const double r = 1 / std::sqrt(squares / static_cast<double>(C) + epsilon);
        inv_rms(n, h) = r;
        for (index_t c = 0; c < C; ++c) y(n, h, c) = x(n, h, c) * r * scale(c);
      }
    }
  }

  static void rms_norm_backward(context&,
                                heads dx,
                                vector dscale,
                                in_heads dy,
                                in_heads x,
                                in_matrix inv_rms,
                                in_vector scale,
                                in_heads residual) {
    const index_t C = x.extent(2);
    for (index_t n = 0; n < x.extent(0); ++n) {
      for (index_t h = 0; h < x.extent(1); ++h) {
        const double r = inv_rms(n, h);
        double dot = 0;
        for (index_t c = 0; c < C; ++c) dot += dy(n, h, c) * scale(c) * x(n, h, c);
        const double along = r * r * dot / static_cast<double>(C);
        for (index_t c = 0; c < C; ++c) {
          const double d = dy(n, h, c);  // dx may be dy
          if (dscale.data() != nullptr) dscale(c) += d * x(n, h, c) * r;
          const double kept = residual.data() != nullptr ? residual(n, h, c) : 0;
          dx(n, h, c) = kept + r * (d * scale(c) - x(n, h, c) * along);
        }
      }
    }
  }

  static void rope_forward(context&, heads x, in_matrix table, index_t length, index_t first) {
    rotate(x, table, length, first, 1);
  }
  static void rope_forward(context&, heads x, in_matrix table, in_positions where) {
    for (index_t n = 0; n < x.extent(0); ++n) rotate(x.slice(0, n, 1), table, 1, where(n), 1);
  }
  static void rope_backward(context&, heads dx, in_matrix table, index_t length, index_t first) {
    rotate(dx, table, length, first, -1);
  }

  static void swiglu_forward(context&, matrix y, in_matrix gate_up) {
    const index_t F = y.extent(1);
    for (index_t n = 0; n < y.extent(0); ++n) {
      for (index_t f = 0; f < F; ++f) y(n, f) = silu(gate_up(n, f)) * gate_up(n, F + f);
    }
  }
  static void swiglu_backward(context&, matrix d_gate_up, in_matrix dy, in_matrix gate_up) {
    const index_t F = dy.extent(1);
    for (index_t n = 0; n < dy.extent(0); ++n) {
      for (index_t f = 0; f < F; ++f) {
        const double g = gate_up(n, f), u = gate_up(n, F + f);  // d_gate_up may be gate_up
        d_gate_up(n, f) = dy(n, f) * u * silu_slope(g);
        d_gate_up(n, F + f) = dy(n, f) * silu(g);
      }
    }
  }

  static void silu_residual_forward(context&, matrix y, in_matrix x, in_matrix u) {
    for (index_t i = 0; i < y.count(); ++i) element(y, i) = element(x, i) + silu(element(u, i));
  }
  static void silu_residual_backward(context&, matrix du, in_matrix dy, in_matrix u) {
    for (index_t i = 0; i < du.count(); ++i) {
      element(du, i) = element(dy, i) * silu_slope(element(u, i));
    }
  }

 private:
  static void rotate(heads x, in_matrix table, index_t length, index_t first, double sign) {
    const index_t half = x.extent(2) / 2;
    for (index_t n = 0; n < x.extent(0); ++n) {
      const index_t p = first + n % length;
      for (index_t h = 0; h < x.extent(1); ++h) {
        for (index_t e = 0; e < half; ++e) {
          const double a = x(n, h, e), b = x(n, h, half + e);
          const double cosine = table(p, e), sine = sign * table(p, half + e);
          x(n, h, e) = a * cosine - b * sine;
          x(n, h, half + e) = b * cosine + a * sine;
        }
      }
    }
  }
};

}  // namespace naive_types
