// Element-wise operations.
//
// Views may have any rank and strides, and may be empty. "broadcast" in a docstring means that an
// input may have any shape that broadcasts to y's (core/broadcast.hpp). Arithmetic happens in
// accumulate_t (float for bf16) and is rounded once, when the result is stored. An output may be
// the same view as an input; any other overlap is not allowed. Shapes that differ throw mtp::error
// before anything is written.
#pragma once

#include <type_traits>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/view_checks.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// Elements of X can be converted to elements of Y.
template <class Y, class X>
inline constexpr bool converts = same_element<Y, X> ||
                                 (scalar<Y> && scalar<std::remove_const_t<X>>);

/// The function takes an element of each X and returns an element of Y.
template <class Function, class Y, class... X>
inline constexpr bool maps =
    std::is_invocable_r_v<arithmetic_t<Y>, const Function&, arithmetic_t<X>...>;

/// Elements of A and B can be copied to Y unchanged.
template <class Y, class A, class B>
inline constexpr bool chooses = !std::is_const_v<Y> && same_element<Y, A> && same_element<Y, B>;

/// Elements that can be used as a condition.
template <class Condition>
inline constexpr bool truth =
    scalar<std::remove_const_t<Condition>> || std::is_integral_v<Condition>;

/// A vector as long as the last dimension of Shape, as far as the compiler can tell.
template <class Shape, class Row>
inline constexpr bool is_row_of = [] {
  if constexpr (Shape::rank >= 1 && Row::rank == 1) {
    return may_equal(Shape::static_sizes.back(), Row::static_sizes.back());
  } else {
    return false;
  }
}();

}  // namespace detail

/// y[i] = value                                     y of any shape and element type
template <class S, class Shape, class Backend>
detail::void_if<!std::is_const_v<S>> fill(context<Backend>& context,
                                          view<S, Shape, Backend> y,
                                          detail::arithmetic_t<S> value) {
  static_assert(!std::is_const_v<S>, "fill: y must be writable");
  MTP_DISPATCH(fill, context, detail::output(y), value);
}

/// y[i] = x[i]                                      y, x of one shape
///
/// Element types may differ where both are f64, f32 or bf16: the value is rounded to nearest, ties
/// to even, f64 to bf16 via f32. Elements of equal type keep their bits.
template <class S, class Shape, class X, class ShapeX, class Backend>
detail::void_if<!std::is_const_v<S>, detail::converts<S, X>, detail::same_shape<Shape, ShapeX>>
copy(context<Backend>& context, view<S, Shape, Backend> y, view<X, ShapeX, Backend> x) {
  static_assert(!std::is_const_v<S>, "copy: y must be writable");
  static_assert(detail::converts<S, X>,
                "copy: there is no conversion between the element types of y and x");
  static_assert(detail::same_shape<Shape, ShapeX>, "copy: y and x must have the same shape");
  detail::check_same_shape("copy", "x", x, y);
  MTP_DISPATCH(copy, context, detail::output(y), detail::input(x));
}

/// y[i] = a[i] + b[i]                               y, a, b of one element type; a, b broadcast
template <class S, class Shape, class A, class ShapeA, class B, class ShapeB, class Backend>
detail::void_if<detail::one_element<S, A, B>,
                detail::broadcasts<Shape, ShapeA>,
                detail::broadcasts<Shape, ShapeB>>
add(context<Backend>& context,
    view<S, Shape, Backend> y,
    view<A, ShapeA, Backend> a,
    view<B, ShapeB, Backend> b) {
  static_assert(detail::one_element<S, A, B>,
                "add: y must be writable, and y, a and b of one element type: f64, f32 or bf16");
  static_assert(detail::broadcasts<Shape, ShapeA> && detail::broadcasts<Shape, ShapeB>,
                "add: a and b must have y's shape, or one that broadcasts to it");
  const auto left = detail::broadcast("add", "a", a, y.shape());
  const auto right = detail::broadcast("add", "b", b, y.shape());
  MTP_DISPATCH(add, context, detail::output(y), left, right);
}

/// y[i] = a[i] - b[i]                               y, a, b of one element type; a, b broadcast
template <class S, class Shape, class A, class ShapeA, class B, class ShapeB, class Backend>
detail::void_if<detail::one_element<S, A, B>,
                detail::broadcasts<Shape, ShapeA>,
                detail::broadcasts<Shape, ShapeB>>
subtract(context<Backend>& context,
         view<S, Shape, Backend> y,
         view<A, ShapeA, Backend> a,
         view<B, ShapeB, Backend> b) {
  static_assert(
      detail::one_element<S, A, B>,
      "subtract: y must be writable, and y, a and b of one element type: f64, f32 or bf16");
  static_assert(detail::broadcasts<Shape, ShapeA> && detail::broadcasts<Shape, ShapeB>,
                "subtract: a and b must have y's shape, or one that broadcasts to it");
  const auto left = detail::broadcast("subtract", "a", a, y.shape());
  const auto right = detail::broadcast("subtract", "b", b, y.shape());
  MTP_DISPATCH(subtract, context, detail::output(y), left, right);
}

/// y[i] = a[i] * b[i]                               y, a, b of one element type; a, b broadcast
template <class S, class Shape, class A, class ShapeA, class B, class ShapeB, class Backend>
detail::void_if<detail::one_element<S, A, B>,
                detail::broadcasts<Shape, ShapeA>,
                detail::broadcasts<Shape, ShapeB>>
multiply(context<Backend>& context,
         view<S, Shape, Backend> y,
         view<A, ShapeA, Backend> a,
         view<B, ShapeB, Backend> b) {
  static_assert(
      detail::one_element<S, A, B>,
      "multiply: y must be writable, and y, a and b of one element type: f64, f32 or bf16");
  static_assert(detail::broadcasts<Shape, ShapeA> && detail::broadcasts<Shape, ShapeB>,
                "multiply: a and b must have y's shape, or one that broadcasts to it");
  const auto left = detail::broadcast("multiply", "a", a, y.shape());
  const auto right = detail::broadcast("multiply", "b", b, y.shape());
  MTP_DISPATCH(multiply, context, detail::output(y), left, right);
}

/// y[i] = a[i] / b[i]                               y, a, b of one element type; a, b broadcast
template <class S, class Shape, class A, class ShapeA, class B, class ShapeB, class Backend>
detail::void_if<detail::one_element<S, A, B>,
                detail::broadcasts<Shape, ShapeA>,
                detail::broadcasts<Shape, ShapeB>>
divide(context<Backend>& context,
       view<S, Shape, Backend> y,
       view<A, ShapeA, Backend> a,
       view<B, ShapeB, Backend> b) {
  static_assert(detail::one_element<S, A, B>,
                "divide: y must be writable, and y, a and b of one element type: f64, f32 or bf16");
  static_assert(detail::broadcasts<Shape, ShapeA> && detail::broadcasts<Shape, ShapeB>,
                "divide: a and b must have y's shape, or one that broadcasts to it");
  const auto left = detail::broadcast("divide", "a", a, y.shape());
  const auto right = detail::broadcast("divide", "b", b, y.shape());
  MTP_DISPATCH(divide, context, detail::output(y), left, right);
}

/// y[i] = factor * x[i]                             y, x of one shape and element type
template <class S, class Shape, class X, class ShapeX, class Backend>
detail::void_if<detail::one_element<S, X>, detail::same_shape<Shape, ShapeX>> scale(
    context<Backend>& context,
    view<S, Shape, Backend> y,
    view<X, ShapeX, Backend> x,
    detail::arithmetic_t<S> factor) {
  static_assert(detail::one_element<S, X>,
                "scale: y must be writable, and y and x of one element type: f64, f32 or bf16");
  static_assert(detail::same_shape<Shape, ShapeX>, "scale: y and x must have the same shape");
  detail::check_same_shape("scale", "x", x, y);
  MTP_DISPATCH(scale, context, detail::output(y), detail::input(x), factor);
}

/// y[i] += factor * x[i]                            y, x of one shape and element type
///
/// One fused multiply-add per element where the machine has it.
template <class S, class Shape, class X, class ShapeX, class Backend>
detail::void_if<detail::one_element<S, X>, detail::same_shape<Shape, ShapeX>> axpy(
    context<Backend>& context,
    view<S, Shape, Backend> y,
    detail::arithmetic_t<S> factor,
    view<X, ShapeX, Backend> x) {
  static_assert(detail::one_element<S, X>,
                "axpy: y must be writable, and y and x of one element type: f64, f32 or bf16");
  static_assert(detail::same_shape<Shape, ShapeX>, "axpy: y and x must have the same shape");
  detail::check_same_shape("axpy", "x", x, y);
  MTP_DISPATCH(axpy, context, detail::output(y), factor, detail::input(x));
}

/// y[i] = function(x[i])                            y, x of one shape; element types may differ
///
/// The function takes accumulate_t of x's element and returns a type that converts to accumulate_t
/// of y's. It is called once per element, concurrently from several threads, in no defined order,
/// and must not throw.
///
/// On a device, the function is copied there bit by bit, and the device's compiler must be able to
/// call it. For CUDA, pass a type whose operator() is marked MTP_HOST_DEVICE (core/config.hpp); a
/// lambda needs nvcc's option --extended-lambda.
template <class S, class Shape, class X, class ShapeX, class Backend, class Function>
detail::
    void_if<!std::is_const_v<S>, detail::maps<Function, S, X>, detail::same_shape<Shape, ShapeX>>
    transform(context<Backend>& context,
              view<S, Shape, Backend> y,
              view<X, ShapeX, Backend> x,
              const Function& function) {
  static_assert(!std::is_const_v<S>, "transform: y must be writable");
  static_assert(detail::maps<Function, S, X>,
                "transform: the function must take an element of x and return one of y");
  static_assert(detail::same_shape<Shape, ShapeX>, "transform: y and x must have the same shape");
  detail::check_same_shape("transform", "x", x, y);
  MTP_DISPATCH(transform, context, detail::output(y), detail::input(x), function);
}

/// y[i] = function(a[i], b[i])                      a, b broadcast; otherwise as with one input
template <class S,
          class Shape,
          class A,
          class ShapeA,
          class B,
          class ShapeB,
          class Backend,
          class Function>
detail::void_if<!std::is_const_v<S>,
                detail::maps<Function, S, A, B>,
                detail::broadcasts<Shape, ShapeA>,
                detail::broadcasts<Shape, ShapeB>>
transform(context<Backend>& context,
          view<S, Shape, Backend> y,
          view<A, ShapeA, Backend> a,
          view<B, ShapeB, Backend> b,
          const Function& function) {
  static_assert(!std::is_const_v<S>, "transform: y must be writable");
  static_assert(detail::maps<Function, S, A, B>,
                "transform: the function must take elements of a and b and return one of y");
  static_assert(detail::broadcasts<Shape, ShapeA> && detail::broadcasts<Shape, ShapeB>,
                "transform: a and b must have y's shape, or one that broadcasts to it");
  const auto left = detail::broadcast("transform", "a", a, y.shape());
  const auto right = detail::broadcast("transform", "b", b, y.shape());
  MTP_DISPATCH(transform, context, detail::output(y), left, right, function);
}

/// y[i] = condition[i] ? a[i] : b[i]                a, b of y's element type; condition, a, b
/// broadcast
///
/// Elements keep their bits. The condition holds f64, f32, bf16, bool or integers; 0 is false, and
/// all other numbers, NaN included, are true.
template <class S,
          class Shape,
          class Condition,
          class ShapeC,
          class A,
          class ShapeA,
          class B,
          class ShapeB,
          class Backend>
detail::void_if<detail::chooses<S, A, B>,
                detail::truth<Condition>,
                detail::broadcasts<Shape, ShapeC>,
                detail::broadcasts<Shape, ShapeA>,
                detail::broadcasts<Shape, ShapeB>>
where(context<Backend>& context,
      view<S, Shape, Backend> y,
      view<Condition, ShapeC, Backend> condition,
      view<A, ShapeA, Backend> a,
      view<B, ShapeB, Backend> b) {
  static_assert(detail::chooses<S, A, B>,
                "where: y must be writable, and y, a and b of one element type");
  static_assert(detail::truth<Condition>,
                "where: the elements of condition must be numbers or truth values");
  static_assert(detail::broadcasts<Shape, ShapeC> && detail::broadcasts<Shape, ShapeA> &&
                    detail::broadcasts<Shape, ShapeB>,
                "where: condition, a and b must have y's shape, or one that broadcasts to it");
  const auto chosen = detail::broadcast("where", "condition", condition, y.shape());
  const auto left = detail::broadcast("where", "a", a, y.shape());
  const auto right = detail::broadcast("where", "b", b, y.shape());
  MTP_DISPATCH(where, context, detail::output(y), chosen, left, right);
}

/// y[..., c] = x[..., c] + row[c]                   y, x [..., C], row [C], one element type
template <class S, class Shape, class X, class ShapeX, class R, class ShapeR, class Backend>
detail::void_if<detail::one_element<S, X, R>,
                detail::same_shape<Shape, ShapeX>,
                detail::is_row_of<Shape, ShapeR>>
broadcast_add(context<Backend>& context,
              view<S, Shape, Backend> y,
              view<X, ShapeX, Backend> x,
              view<R, ShapeR, Backend> row) {
  static_assert(
      detail::one_element<S, X, R>,
      "broadcast_add: y must be writable, and y, x and row of one element type: f64, f32 or bf16");
  static_assert(detail::same_shape<Shape, ShapeX>,
                "broadcast_add: y and x must have the same shape");
  static_assert(Shape::rank >= 1 && ShapeR::rank == 1, "broadcast_add: row must be a vector");
  if constexpr (Shape::rank >= 1 && ShapeR::rank == 1) {
    static_assert(detail::is_row_of<Shape, ShapeR>,
                  "broadcast_add: row must be as long as the last dimension of x");
    detail::check_same_shape("broadcast_add", "x", x, y);
    check(row.extent(0) == y.extent(Shape::rank - 1),
          "broadcast_add: expected row of shape [",
          y.extent(Shape::rank - 1),
          "], got ",
          row.shape());
    MTP_DISPATCH(broadcast_add, context, detail::output(y), detail::input(x), detail::input(row));
  }
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(fill, as_operand, "expected (context, y, value), y a view of the context's backend")
MTP_OPERATION(copy, as_operand, "expected (context, y, x), views of one backend")
MTP_OPERATION(add, as_operand, "expected (context, y, a, b), views of one backend")
MTP_OPERATION(subtract, as_operand, "expected (context, y, a, b), views of one backend")
MTP_OPERATION(multiply, as_operand, "expected (context, y, a, b), views of one backend")
MTP_OPERATION(divide, as_operand, "expected (context, y, a, b), views of one backend")
MTP_OPERATION(scale, as_operand, "expected (context, y, x, factor), y and x views of one backend")
MTP_OPERATION(axpy, as_operand, "expected (context, y, factor, x), y and x views of one backend")
MTP_OPERATION(transform,
              as_operand,
              "expected (context, y, x, function), y and x views of one backend or (context, y, a, "
              "b, function), y, a and b views of one backend")
MTP_OPERATION(where, as_operand, "expected (context, y, condition, a, b), views of one backend")
MTP_OPERATION(broadcast_add, as_operand, "expected (context, y, x, row), views of one backend")
/// @endcond

}  // namespace mtp::inline MTP_ABI
