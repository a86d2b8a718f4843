// Linear maps: y = W x and its three gradients.
//
// Gradients of parameters accumulate (+=), gradients of activations overwrite (=).
#pragma once

#include <type_traits>

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

/// y[m, n] = sum over k of W[n, k] x[m, k]          y [M, N], x [M, K], W [N, K]
///
/// y has x's element type or accumulate_t of it. Row-invariant: the bits of y[m] depend only on
/// x[m] and W, not on M or on threads; docs/numerics.md says up to which M each backend promises
/// this. Rows may be strided. y must not overlap x. A weight in 8 bits (ops/quantize.hpp)
/// gives the sum that its format defines. Throws mtp::error on wrong shapes.
template <scalar Y, detail::matrix_shape Shape, class X, detail::matrix_shape ShapeX, class Backend>
detail::void_if<detail::result_of<Y, X>,
                detail::may_equal(Shape::static_sizes[0], ShapeX::static_sizes[0])>
linear_forward(context<Backend>& context,
               view<Y, Shape, Backend> y,
               view<X, ShapeX, Backend> rows,
               in_weight<std::remove_const_t<X>, Backend> w) {
  static_assert(detail::result_of<Y, X>,
                "linear_forward: y must have x's element type or its accumulator type");
  static_assert(detail::may_equal(Shape::static_sizes[0], ShapeX::static_sizes[0]),
                "linear_forward: y must have as many rows as x");
  const detail::in_matrix_of<X, Backend> x(rows);
  detail::check_shape("linear_forward", "y", out_matrix<Y, Backend>(y), {x.extent(0), w.outputs});
  detail::check_weight("linear_forward", "w", w, w.outputs, x.extent(1));
  detail::check_rows("linear_forward", "y", y);
  detail::check_rows("linear_forward", "x", x);
  if (detail::linear_quantized(context, out_matrix<Y, Backend>(y), x, w)) {
    return;
  }
  MTP_DISPATCH(linear_forward, context, out_matrix<Y, Backend>(y), x, w);
}

/// y[m, n] = bias[n] + sum over k of W[n, k] x[m, k]; else as linear_forward. bias [N]
template <scalar S, detail::matrix_shape Shape, class Backend>
void linear_bias_forward(context<Backend>& context,
                         view<S, Shape, Backend> y,
                         in_matrix<S, Backend> x,
                         in_weight<S, Backend> w,
                         in_vector<S, Backend> bias) {
  detail::check_shape(
      "linear_bias_forward", "y", out_matrix<S, Backend>(y), {x.extent(0), w.outputs});
  detail::check_weight("linear_bias_forward", "w", w, w.outputs, x.extent(1));
  detail::check_shape("linear_bias_forward", "bias", bias, dims<1>{w.outputs});
  detail::check_rows("linear_bias_forward", "y", y);
  detail::check_rows("linear_bias_forward", "x", x);
  detail::check_rows("linear_bias_forward", "bias", bias);
  if (detail::linear_quantized(context, out_matrix<S, Backend>(y), x, w, bias.data(), 0)) {
    return;
  }
  MTP_DISPATCH(linear_bias_forward, context, out_matrix<S, Backend>(y), x, w, bias);
}

/// y[m, n] = residual[m, n] + sum over k of W[n, k] x[m, k]; else as linear_forward. residual [M,
/// N], may be y.
template <scalar S, detail::matrix_shape Shape, class Backend>
void linear_add_forward(context<Backend>& context,
                        view<S, Shape, Backend> y,
                        in_matrix<S, Backend> x,
                        in_weight<S, Backend> w,
                        in_matrix<S, Backend> residual) {
  detail::check_shape(
      "linear_add_forward", "y", out_matrix<S, Backend>(y), {x.extent(0), w.outputs});
  detail::check_weight("linear_add_forward", "w", w, w.outputs, x.extent(1));
  detail::check_shape("linear_add_forward", "residual", residual, {x.extent(0), w.outputs});
  detail::check_rows("linear_add_forward", "y", y);
  detail::check_rows("linear_add_forward", "x", x);
  detail::check_rows("linear_add_forward", "residual", residual);
  if (detail::linear_quantized(
          context, out_matrix<S, Backend>(y), x, w, residual.data(), residual.stride(0))) {
    return;
  }
  MTP_DISPATCH(linear_add_forward, context, out_matrix<S, Backend>(y), x, w, residual);
}

/// dx[m, k] = sum over n of dy[m, n] W[n, k]        dx [M, K], dy [M, N], W [N, K]
///
/// Row-invariant on the CPU. dx must not overlap dy. Throws mtp::error on wrong shapes.
template <scalar S, detail::matrix_shape Shape, class Backend>
void linear_backward_input(context<Backend>& context,
                           view<S, Shape, Backend> dx,
                           in_matrix<S, Backend> dy,
                           in_weight<S, Backend> w) {
  detail::check_shape(
      "linear_backward_input", "dx", out_matrix<S, Backend>(dx), {dy.extent(0), w.inputs});
  detail::check_elements("linear_backward_input", "w", w, dy.extent(1), w.inputs);
  detail::check_rows("linear_backward_input", "dx", dx);
  detail::check_rows("linear_backward_input", "dy", dy);
  MTP_DISPATCH(linear_backward_input, context, out_matrix<S, Backend>(dx), dy, w);
}

/// dx[m, k] = residual[m, k] + sum over n of dy[m, n] W[n, k]; else as linear_backward_input.
/// residual [M, K], may be dx.
template <scalar S, detail::matrix_shape Shape, class Backend>
void linear_add_backward_input(context<Backend>& context,
                               view<S, Shape, Backend> dx,
                               in_matrix<S, Backend> dy,
                               in_weight<S, Backend> w,
                               in_matrix<S, Backend> residual) {
  detail::check_shape(
      "linear_add_backward_input", "dx", out_matrix<S, Backend>(dx), {dy.extent(0), w.inputs});
  detail::check_elements("linear_add_backward_input", "w", w, dy.extent(1), w.inputs);
  detail::check_shape("linear_add_backward_input", "residual", residual, {dy.extent(0), w.inputs});
  detail::check_rows("linear_add_backward_input", "dx", dx);
  detail::check_rows("linear_add_backward_input", "dy", dy);
  detail::check_rows("linear_add_backward_input", "residual", residual);
  MTP_DISPATCH(linear_add_backward_input, context, out_matrix<S, Backend>(dx), dy, w, residual);
}

/// dW[n, k] += sum over m of dy[m, n] x[m, k]       dW [N, K], dy [M, N], x [M, K]
///
/// dW holds accumulate_t of dy's elements. On the CPU the sum starts from the old value and
/// runs over m in order, of bf16 in pairs of rows where products are; on every backend its order
/// depends on the shapes only. Throws mtp::error on wrong shapes.
template <class G, class S, detail::matrix_shape Shape, class Backend>
detail::void_if<detail::sums_of<G, S>> linear_backward_weight(
    context<Backend>& context,
    weight_view<G, Backend> dw,
    view<S, Shape, Backend> dy_rows,
    in_matrix<std::remove_const_t<S>, Backend> x) {
  static_assert(detail::sums_of<G, S>,
                "linear_backward_weight: dw must hold elements of the accumulator type of dy");
  const detail::in_matrix_of<S, Backend> dy(dy_rows);
  detail::check_weight("linear_backward_weight", "dw", dw, dy.extent(1), x.extent(1));
  detail::check_shape("linear_backward_weight", "x", x, {dy.extent(0), dw.inputs});
  detail::check_rows("linear_backward_weight", "dy", dy);
  detail::check_rows("linear_backward_weight", "x", x);
  MTP_DISPATCH(linear_backward_weight, context, dw, dy, x);
}

/// dbias[n] += sum over m of dy[m, n]               dbias [N], dy [M, N]
///
/// dbias holds accumulate_t of dy's elements. Throws mtp::error on wrong shapes.
template <class G, detail::vector_shape Shape, class S, detail::matrix_shape ShapeY, class Backend>
detail::void_if<detail::sums_of<G, S>,
                detail::may_equal(Shape::static_sizes[0], ShapeY::static_sizes[1])>
linear_backward_bias(context<Backend>& context,
                     view<G, Shape, Backend> dbias,
                     view<S, ShapeY, Backend> dy_rows) {
  static_assert(detail::sums_of<G, S>,
                "linear_backward_bias: dbias must hold elements of the accumulator type of dy");
  static_assert(detail::may_equal(Shape::static_sizes[0], ShapeY::static_sizes[1]),
                "linear_backward_bias: dbias must be as long as dy has columns");
  const detail::in_matrix_of<S, Backend> dy(dy_rows);
  detail::check_shape(
      "linear_backward_bias", "dbias", out_vector<G, Backend>(dbias), dims<1>{dy.extent(1)});
  detail::check_rows("linear_backward_bias", "dbias", dbias);
  detail::check_rows("linear_backward_bias", "dy", dy);
  MTP_DISPATCH(linear_backward_bias, context, out_vector<G, Backend>(dbias), dy);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(linear_forward,
              as_operand,
              "expected (context, y [M, N], x [M, K], w), of one backend, w a weight_view of x's "
              "element type; for any other matrix, use matmul with view::transpose()")
MTP_OPERATION(linear_bias_forward,
              as_operand,
              "expected (context, y [M, N], x [M, K], w, bias [N]), of one backend and element "
              "type, y writable")
MTP_OPERATION(linear_add_forward,
              as_operand,
              "expected (context, y [M, N], x [M, K], w, residual [M, N]), of one backend and "
              "element type, y writable")
MTP_OPERATION(
    linear_backward_input,
    as_operand,
    "expected (context, dx [M, K], dy [M, N], w), of one backend and element type, dx writable")
MTP_OPERATION(linear_add_backward_input,
              as_operand,
              "expected (context, dx [M, K], dy [M, N], w, residual [M, K]), of one backend and "
              "element type, dx writable")
MTP_OPERATION(linear_backward_weight,
              as_operand,
              "expected (context, dw, dy [M, N], x [M, K]), of one backend, x of dy's element type")
MTP_OPERATION(linear_backward_bias,
              as_operand,
              "expected (context, dbias [N], dy [M, N]), views of one backend")
/// @endcond

}  // namespace mtp::inline MTP_ABI
