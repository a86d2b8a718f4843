// Softmax over the last dimension.
#pragma once

#include "mtp/core/backend.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/view_checks.hpp"

namespace mtp::inline MTP_ABI {

/// y[..., c] = exp(x[..., c] - m) / sum over c' of exp(x[..., c'] - m),  m = maximum over c' of
/// x[..., c']
///
/// y, x [..., C] of one element type, any strides; computed in accumulate_t. y may be x.
/// Row-invariant. Terms too small for a normal number become zero, and -inf gives exactly zero. A
/// row with a NaN, with +inf or with only -inf becomes all NaN. Throws mtp::error on wrong shapes
/// and on too small a workspace.
template <class S, class Shape, class X, class ShapeX, class Backend>
detail::void_if<detail::one_element<S, X>, detail::same_shape<Shape, ShapeX>, (Shape::rank >= 1)>
softmax_forward(context<Backend>& context, view<S, Shape, Backend> y, view<X, ShapeX, Backend> x) {
  static_assert(
      detail::one_element<S, X>,
      "softmax_forward: y must be writable, and y and x of one element type: f64, f32 or bf16");
  static_assert(detail::same_shape<Shape, ShapeX>,
                "softmax_forward: y and x must have the same shape");
  static_assert(Shape::rank >= 1, "softmax_forward: y and x must have a last dimension");
  detail::check_same_shape("softmax_forward", "x", x, y);
  MTP_DISPATCH(softmax_forward, context, detail::output(y), detail::input(x));
}

/// dx[..., c] = y[..., c] (dy[..., c] - sum over c' of dy[..., c'] y[..., c'])
///
/// dx, dy, y [..., C]; y is the result of softmax_forward. dx is overwritten (=), and may be dy or
/// y. Row-invariant. Throws mtp::error on wrong shapes and on too small a workspace.
template <class S, class Shape, class G, class ShapeG, class Y, class ShapeY, class Backend>
detail::void_if<detail::one_element<S, G, Y>,
                detail::same_shape<Shape, ShapeG>,
                detail::same_shape<Shape, ShapeY>,
                (Shape::rank >= 1)>
softmax_backward(context<Backend>& context,
                 view<S, Shape, Backend> dx,
                 view<G, ShapeG, Backend> dy,
                 view<Y, ShapeY, Backend> y) {
  static_assert(detail::one_element<S, G, Y>,
                "softmax_backward: dx must be writable, and dx, dy and y of one element type: f64, "
                "f32 or bf16");
  static_assert(detail::same_shape<Shape, ShapeG> && detail::same_shape<Shape, ShapeY>,
                "softmax_backward: dx, dy and y must have the same shape");
  static_assert(Shape::rank >= 1, "softmax_backward: dx, dy and y must have a last dimension");
  detail::check_same_shape("softmax_backward", "dy", dy, dx);
  detail::check_same_shape("softmax_backward", "y", y, dx);
  MTP_DISPATCH(softmax_backward, context, detail::output(dx), detail::input(dy), detail::input(y));
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(softmax_forward, as_operand, "expected (context, y, x), views of one backend")
MTP_OPERATION(softmax_backward, as_operand, "expected (context, dx, dy, y), views of one backend")
/// @endcond

}  // namespace mtp::inline MTP_ABI
