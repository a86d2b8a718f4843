// A layer of one's own, from the library's operations: a feed-forward layer with a squared ReLU
// (Primer, So et al. 2021, arXiv 2109.08668) on a normed residual stream,
//
//   h = rms_norm(x; s)      u = W_in h      a = max(u, 0)^2      y = x + W_out a
//
// Its backward pass is written by hand, as all of the library's are, and checked against central
// differences in double. Neither pass allocates.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

using mtp::cpu;
using mtp::index_t;
using matrix = mtp::matrix_view<double, cpu>;

/// What the layer learns, or the gradients of it. Matrices lie as the backend's products want them.
struct parameters {
  mtp::vector_view<double, cpu> scale;  // [C]
  mtp::weight_view<double, cpu> inner;  // [F, C]
  mtp::weight_view<double, cpu> outer;  // [C, F]
};

template <index_t N, index_t C, index_t F>
struct squared_relu_layer {
  using rows = mtp::tensor<double, mtp::dims<2>, cpu>;
  static constexpr double epsilon = 1e-5;

  parameters w;
  parameters g;  // += the gradients of w
  // What the forward pass keeps for the backward pass, and room for two gradients.
  rows normed{mtp::dims<2>(N, C)};                                  // [N, C]: h
  mtp::tensor<double, mtp::dims<1>, cpu> inv_rms{mtp::dims<1>{N}};  // [N]
  rows inner{mtp::dims<2>(N, F)};                                   // [N, F]: u
  rows squared{mtp::dims<2>(N, F)};                                 // [N, F]: a
  rows dinner{mtp::dims<2>(N, F)};                                  // [N, F]
  rows dnormed{mtp::dims<2>(N, C)};                                 // [N, C]

  /// y [N, C] of x [N, C]
  void forward(mtp::context<cpu>& context, matrix y, matrix x) {
    mtp::rms_norm_forward(context, normed.view(), inv_rms.view(), x, w.scale, epsilon);
    mtp::linear_forward(context, inner.view(), normed.view(), w.inner);
    mtp::transform(
        context, squared.view(), inner.view(), [](double u) { return u > 0 ? u * u : 0.0; });
    mtp::linear_add_forward(context, y, squared.view(), w.outer, x);
  }

  /// dx [N, C] = the gradient of x, of that of y, dy [N, C]
  void backward(mtp::context<cpu>& context, matrix dx, matrix dy, matrix x) {
    mtp::linear_backward_weight(context, g.outer, dy, squared.view());
    mtp::linear_backward_input(context, dinner.view(), dy, w.outer);
    mtp::transform(context, dinner.view(), dinner.view(), inner.view(), [](double da, double u) {
      return u > 0 ? 2 * u * da : 0.0;
    });
    mtp::linear_backward_weight(context, g.inner, dinner.view(), normed.view());
    mtp::linear_backward_input(context, dnormed.view(), dinner.view(), w.inner);
    // The stream goes round the layer as well as through it: dy is added to dx.
    mtp::rms_norm_backward(context, dx, g.scale, dnormed.view(), x, inv_rms.view(), w.scale, dy);
  }
};

int main() {
  constexpr index_t N = 5, C = 6, F = 11;  // multiples of nothing
  mtp::context<cpu> context({.threads = 1});
  // Values and gradients lie in one array each, at the same places. A cursor finds the places: the
  // backend says how many elements a weight takes.
  mtp::parameter_cursor<cpu, double> cursor;
  const auto scale = cursor.vector(C, mtp::parameter_role::norm);
  const auto inner = cursor.matrix(F, C), outer = cursor.matrix(C, F);
  mtp::buffer<double, cpu> values(cursor.offset()), sums(cursor.offset());
  const auto bind = [&](mtp::buffer<double, cpu>& memory) {
    const mtp::parameter_array<double, cpu> all(memory.data(), memory.count());
    return parameters{all.vector(scale), all.matrix(inner), all.matrix(outer)};
  };
  const parameters w = bind(values), g = bind(sums);
  squared_relu_layer<N, C, F> layer{w, g};
  mtp::tensor<double, mtp::extents<N, C>, cpu> x, y, dx, dy;  // [N, C]

  std::uint64_t position = 0;
  const auto randomize = [&](const auto& values_of, index_t outputs, index_t inputs) {
    for (index_t n = 0; n < outputs; ++n) {
      for (index_t k = 0; k < inputs; ++k) {
        values_of(n, k) = mtp::random_stream(mtp::seed{11}, 0).normal(position++);
      }
    }
  };
  const matrix w_scale(w.scale.data(), {1, C}), g_scale(g.scale.data(), {1, C});
  randomize(x.view(), N, C);
  randomize(dy.view(), N, C);
  randomize(w_scale, 1, C);
  randomize(w.inner, F, C);
  randomize(w.outer, C, F);

  // loss = sum of dy y is linear in y, and dy is its gradient.
  const auto loss = [&] {
    layer.forward(context, y.view(), x.view());
    mtp::tensor<double, mtp::extents<>, cpu> sum;  // []
    mtp::multiply(context, y.view(), y.view(), dy.view());
    mtp::sum(context, sum.view(), y.view());
    return sum();
  };
  loss();
  layer.backward(context, dx.view(), dy.view(), x.view());

  bool passed = true;
  const auto compare = [&](const char* name,
                           const auto& value,
                           const auto& gradient,
                           index_t outputs,
                           index_t inputs) {
    double largest = 0, error = 0;
    for (index_t n = 0; n < outputs; ++n) {
      for (index_t k = 0; k < inputs; ++k) {
        const double here = value(n, k), h = 1e-5;
        value(n, k) = here + h;
        const double above = loss();
        value(n, k) = here - h;
        const double slope = (above - loss()) / (2 * h);
        value(n, k) = here;
        largest = std::max(largest, std::abs(slope));
        error = std::max(error, std::abs(gradient(n, k) - slope));
      }
    }
    std::printf("%-5s [%2td, %2td]: largest slope %8.3f, largest error %.1e\n",
                name,
                outputs,
                inputs,
                largest,
                error);
    passed = passed && error < 1e-8 * largest;
  };
  compare("x", x.view(), dx.view(), N, C);
  compare("scale", w_scale, g_scale, 1, C);
  compare("W_in", w.inner, g.inner, F, C);
  compare("W_out", w.outer, g.outer, C, F);
  std::puts(passed ? "errors below 1e-8 of the largest slope" : "the gradient is wrong");
  return passed ? 0 : 1;
}
