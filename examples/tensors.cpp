// Tensors by themselves: no model, only storage, views of it, and operations on views.
//
// 200 points lie on a noisy plane. Gradient descent, made of matrix products, finds the plane; then
// a softmax over three planes says which one a point belongs to.
#include <cmath>
#include <cstdio>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

using mtp::dynamic;
using mtp::extents;
using mtp::index_t;

constexpr index_t points = 200;  // M

int main() {
  mtp::context<mtp::cpu> context;

  // A tensor owns its elements, row by row. What the compiler knows of a shape is part of the type.
  mtp::tensor<double, extents<points, 3>, mtp::cpu> x;                                   // [M, 3]
  mtp::tensor<double, extents<dynamic, 1>, mtp::cpu> y(extents<dynamic, 1>{points, 1});  // [M, 1]
  const mtp::tensor<double, extents<3, 1>, mtp::cpu> truth({}, {2.0, -1.0, 0.5});        // [3, 1]
  const mtp::random_stream random(mtp::seed{7}, 0);
  std::uint64_t position = 0;
  for (index_t m = 0; m < points; ++m) {
    x(m, 0) = random.normal(position++);
    x(m, 1) = random.normal(position++);
    x(m, 2) = 1;  // the third coefficient is the plane's height
    y(m, 0) = 0.01 * random.normal(position++);
  }
  // y += x truth: an operation takes the context, its result, and then what it reads.
  mtp::matmul(context, y.view(), x.view(), truth.view(), mtp::update::accumulate);

  // A view is a reference with a shape and strides. Slicing, selecting and transposing move
  // nothing.
  const auto head = x.view().slice(0, 0, 4);  // [4, 3]: the first points
  const auto height = x.view().select(1, 2);  // [M]: a column, stride 3
  const auto turned = x.view().transpose();   // [3, M]: stride 1 along 3
  std::printf(
      "x [%td, %td], its first rows [%td, %td], a column of stride %td, transposed [%td, %td]\n",
      x.extent(0),
      x.extent(1),
      head.extent(0),
      head.extent(1),
      height.stride(0),
      turned.extent(0),
      turned.extent(1));

  // Least squares by gradient descent: w -= rate / M * x^T (x w - y).
  mtp::tensor<double, extents<3, 1>, mtp::cpu> w, gradient;    // [3, 1]
  mtp::tensor<double, extents<points, 1>, mtp::cpu> residual;  // [M, 1]
  mtp::tensor<double, extents<points, 1>, mtp::cpu> squares;   // [M, 1]
  mtp::tensor<double, extents<>, mtp::cpu> error;              // []
  for (int step = 0; step <= 40; ++step) {
    mtp::matmul(context, residual.view(), x.view(), w.view());
    mtp::subtract(context, residual.view(), residual.view(), y.view());
    if (step % 10 == 0) {
      mtp::multiply(context, squares.view(), residual.view(), residual.view());
      mtp::mean(context, error.view(), squares.view());
      std::printf("step %2d: mean squared error %.6f\n", step, error());
    }
    mtp::matmul(context, gradient.view(), turned, residual.view());
    mtp::axpy(context, w.view(), -0.2 / points, gradient.view());
  }
  std::printf("found %.3f %.3f %.3f, drawn with 2 -1 0.5\n", w(0, 0), w(1, 0), w(2, 0));

  // Three planes, the found one in the middle column: which one does a point lie on?
  mtp::tensor<double, extents<3, 3>, mtp::cpu> planes({}, {1, 0, -2, 1, 0, 1, 0, 0, 3});  // [3, 3]
  mtp::copy(context, planes.view().slice(1, 1, 1), w.view());
  mtp::tensor<double, extents<4, 3>, mtp::cpu> scores;  // [4, 3]: points by planes
  mtp::matmul(context, scores.view(), head, planes.view());
  for (index_t plane = 0; plane < 3; ++plane) {            // how far y lies from the plane
    const auto column = scores.view().slice(1, plane, 1);  // [4, 1]
    mtp::subtract(context, column, column, y.view().slice(0, 0, 4));
  }
  mtp::transform(context, scores.view(), scores.view(), [](double d) { return -50 * d * d; });
  mtp::softmax_forward(context, scores.view(), scores.view());
  mtp::tensor<mtp::index_t, extents<4>, mtp::cpu> best;  // [4]
  mtp::argmax(context, best.view(), scores.view());
  bool right = true;
  for (index_t m = 0; m < 4; ++m) {
    std::printf("point %td: plane %td with probability %.2f\n", m, best(m), scores(m, best(m)));
    right = right && best(m) == 1;
  }

  // Shapes that the compiler knows are checked by the compiler; all others when the call is made.
  try {
    mtp::matmul(context, gradient.view(), x.view().slice(1, 0, 2), w.view());
    return 1;
  } catch (const mtp::error& refused) {
    std::printf("refused: %s\n", refused.what());
  }
  const bool close = std::abs(w(0, 0) - 2) < 0.01 && std::abs(w(1, 0) + 1) < 0.01 &&
                     std::abs(w(2, 0) - 0.5) < 0.01;
  return close && right ? 0 : 1;
}
