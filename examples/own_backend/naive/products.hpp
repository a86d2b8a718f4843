// Linear maps, the embedding, and how weights begin. Contracts: mtp/ops/linear.hpp, embedding.hpp,
// random.hpp.
#pragma once

#include <cstdint>

#include "mtp/core/random.hpp"
#include "naive.hpp"

namespace naive_types {

struct product_ops {
  static void fill_normal(context&, weight w, double deviation, const mtp::random_stream& random) {
    for (index_t n = 0; n < w.outputs; ++n) {
      for (index_t k = 0; k < w.inputs; ++k) {
        w(n, k) = deviation * random.normal(static_cast<std::uint64_t>(n * w.inputs + k));
      }
    }
  }
  static void linear_forward(context&, matrix y, in_matrix x, in_weight w) {
    for (index_t m = 0; m < y.extent(0); ++m) {
      for (index_t n = 0; n < y.extent(1); ++n) y(m, n) = row_times(x, m, w, n);
    }
  }
  static void linear_bias_forward(context&, matrix y, in_matrix x, in_weight w, in_vector bias) {
    for (index_t m = 0; m < y.extent(0); ++m) {
      for (index_t n = 0; n < y.extent(1); ++n) y(m, n) = bias(n) + row_times(x, m, w, n);
    }
  }
  static void linear_add_forward(context&, matrix y, in_matrix x, in_weight w, in_matrix residual) {
    for (index_t m = 0; m < y.extent(0); ++m) {
      for (index_t n = 0; n < y.extent(1); ++n) y(m, n) = residual(m, n) + row_times(x, m, w, n);
    }
  }
  static void linear_backward_input(context&, matrix dx, in_matrix dy, in_weight w) {
    for (index_t m = 0; m < dx.extent(0); ++m) {
      for (index_t k = 0; k < dx.extent(1); ++k) dx(m, k) = column_times(dy, m, w, k);
    }
  }
  static void linear_add_backward_input(
      context&, matrix dx, in_matrix dy, in_weight w, in_matrix residual) {
    for (index_t m = 0; m < dx.extent(0); ++m) {
      for (index_t k = 0; k < dx.extent(1); ++k) {
        dx(m, k) = residual(m, k) + column_times(dy, m, w, k);
      }
    }
  }
  static void linear_backward_weight(context&, weight dw, in_matrix dy, in_matrix x) {
    for (index_t m = 0; m < dy.extent(0); ++m) {
      for (index_t n = 0; n < dw.outputs; ++n) {
        for (index_t k = 0; k < dw.inputs; ++k) dw(n, k) += dy(m, n) * x(m, k);
      }
    }
  }
  static void linear_backward_bias(context&, vector dbias, in_matrix dy) {
    for (index_t m = 0; m < dy.extent(0); ++m) {
      for (index_t n = 0; n < dy.extent(1); ++n) dbias(n) += dy(m, n);
    }
  }

  static void embedding_forward(context&, matrix x, in_weight table, in_tokens ids) {
    for (index_t n = 0; n < x.extent(0); ++n) {
      for (index_t c = 0; c < x.extent(1); ++c) x(n, c) = table(ids(n), c);
    }
  }
  static void embedding_backward(context&, weight dtable, in_matrix dx, in_tokens ids) {
    for (index_t n = 0; n < dx.extent(0); ++n) {
      for (index_t c = 0; c < dx.extent(1); ++c) dtable(ids(n), c) += dx(n, c);
    }
  }

 private:
  static double row_times(in_matrix x, index_t m, in_weight w, index_t n) {
    double sum = 0;
    for (index_t k = 0; k < w.inputs; ++k) sum += w(n, k) * x(m, k);
    return sum;
  }
  static double column_times(in_matrix dy, index_t m, in_weight w, index_t k) {
    double sum = 0;
    for (index_t n = 0; n < w.outputs; ++n) sum += dy(m, n) * w(n, k);
    return sum;
  }
};

}  // namespace naive_types
