// Operations on each element by itself.
//
// Views may have any rank and any strides, and may be empty. Arithmetic happens in accumulate_t
// (float for bf16) and is rounded once, when the result is stored. An output may be the same view
// as an input; it must not overlap one in another way. Shapes that differ throw mtp::error before
// anything is written.
#pragma once

#include <type_traits>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/ops/view_checks.hpp"

namespace mtp::inline MTP_ABI {

/// y[i] = value                                     y of any shape and element type
template <class S, class Shape, class Backend>
void fill(context<Backend>& context, view<S, Shape, Backend> y, detail::arithmetic_t<S> value) {
  static_assert(!std::is_const_v<S>, "fill: y must be writable");
  static_assert(
      requires { ops_of<Backend>::fill(context, detail::output(y), value); },
      "fill: the backend has no such operation for these arguments");
  ops_of<Backend>::fill(context, detail::output(y), value);
}

/// y[i] = x[i]                                      y, x of one shape
///
/// Element types may differ where both are f64, f32 or bf16: the value is rounded to nearest, ties
/// to even, f64 to bf16 by way of f32. Elements of equal type keep their bits.
template <class S, class Shape, class X, class ShapeX, class Backend>
void copy(context<Backend>& context, view<S, Shape, Backend> y, view<X, ShapeX, Backend> x) {
  static_assert(!std::is_const_v<S>, "copy: y must be writable");
  static_assert(detail::same_element<S, X> || (scalar<S> && scalar<std::remove_const_t<X>>),
                "copy: there is no conversion between the element types of y and x");
  static_assert(detail::same_shape<Shape, ShapeX>, "copy: y and x must have the same shape");
  detail::check_same_shape("copy", "x", x, y);
  static_assert(
      requires { ops_of<Backend>::copy(context, detail::output(y), detail::input(x)); },
      "copy: the backend has no such operation for these arguments");
  ops_of<Backend>::copy(context, detail::output(y), detail::input(x));
}

/// y[i] = a[i] + b[i]                               y, a, b of one shape and element type
template <class S, class Shape, class A, class ShapeA, class B, class ShapeB, class Backend>
void add(context<Backend>& context,
         view<S, Shape, Backend> y,
         view<A, ShapeA, Backend> a,
         view<B, ShapeB, Backend> b) {
  static_assert(scalar<S> && detail::same_element<S, A> && detail::same_element<S, B>,
                "add: y must be writable, and y, a and b of one element type: f64, f32 or bf16");
  static_assert(detail::same_shape<Shape, ShapeA> && detail::same_shape<Shape, ShapeB>,
                "add: y, a and b must have the same shape");
  detail::check_same_shape("add", "a", a, y);
  detail::check_same_shape("add", "b", b, y);
  static_assert(
      requires {
        ops_of<Backend>::add(context, detail::output(y), detail::input(a), detail::input(b));
      },
      "add: the backend has no such operation for these arguments");
  ops_of<Backend>::add(context, detail::output(y), detail::input(a), detail::input(b));
}

/// y[i] = a[i] - b[i]                               y, a, b of one shape and element type
template <class S, class Shape, class A, class ShapeA, class B, class ShapeB, class Backend>
void subtract(context<Backend>& context,
              view<S, Shape, Backend> y,
              view<A, ShapeA, Backend> a,
              view<B, ShapeB, Backend> b) {
  static_assert(
      scalar<S> && detail::same_element<S, A> && detail::same_element<S, B>,
      "subtract: y must be writable, and y, a and b of one element type: f64, f32 or bf16");
  static_assert(detail::same_shape<Shape, ShapeA> && detail::same_shape<Shape, ShapeB>,
                "subtract: y, a and b must have the same shape");
  detail::check_same_shape("subtract", "a", a, y);
  detail::check_same_shape("subtract", "b", b, y);
  static_assert(
      requires {
        ops_of<Backend>::subtract(context, detail::output(y), detail::input(a), detail::input(b));
      },
      "subtract: the backend has no such operation for these arguments");
  ops_of<Backend>::subtract(context, detail::output(y), detail::input(a), detail::input(b));
}

/// y[i] = a[i] * b[i]                               y, a, b of one shape and element type
template <class S, class Shape, class A, class ShapeA, class B, class ShapeB, class Backend>
void multiply(context<Backend>& context,
              view<S, Shape, Backend> y,
              view<A, ShapeA, Backend> a,
              view<B, ShapeB, Backend> b) {
  static_assert(
      scalar<S> && detail::same_element<S, A> && detail::same_element<S, B>,
      "multiply: y must be writable, and y, a and b of one element type: f64, f32 or bf16");
  static_assert(detail::same_shape<Shape, ShapeA> && detail::same_shape<Shape, ShapeB>,
                "multiply: y, a and b must have the same shape");
  detail::check_same_shape("multiply", "a", a, y);
  detail::check_same_shape("multiply", "b", b, y);
  static_assert(
      requires {
        ops_of<Backend>::multiply(context, detail::output(y), detail::input(a), detail::input(b));
      },
      "multiply: the backend has no such operation for these arguments");
  ops_of<Backend>::multiply(context, detail::output(y), detail::input(a), detail::input(b));
}

/// y[i] = a[i] / b[i]                               y, a, b of one shape and element type
template <class S, class Shape, class A, class ShapeA, class B, class ShapeB, class Backend>
void divide(context<Backend>& context,
            view<S, Shape, Backend> y,
            view<A, ShapeA, Backend> a,
            view<B, ShapeB, Backend> b) {
  static_assert(scalar<S> && detail::same_element<S, A> && detail::same_element<S, B>,
                "divide: y must be writable, and y, a and b of one element type: f64, f32 or bf16");
  static_assert(detail::same_shape<Shape, ShapeA> && detail::same_shape<Shape, ShapeB>,
                "divide: y, a and b must have the same shape");
  detail::check_same_shape("divide", "a", a, y);
  detail::check_same_shape("divide", "b", b, y);
  static_assert(
      requires {
        ops_of<Backend>::divide(context, detail::output(y), detail::input(a), detail::input(b));
      },
      "divide: the backend has no such operation for these arguments");
  ops_of<Backend>::divide(context, detail::output(y), detail::input(a), detail::input(b));
}

/// y[i] = factor * x[i]                             y, x of one shape and element type
template <class S, class Shape, class X, class ShapeX, class Backend>
void scale(context<Backend>& context,
           view<S, Shape, Backend> y,
           view<X, ShapeX, Backend> x,
           detail::arithmetic_t<S> factor) {
  static_assert(scalar<S> && detail::same_element<S, X>,
                "scale: y must be writable, and y and x of one element type: f64, f32 or bf16");
  static_assert(detail::same_shape<Shape, ShapeX>, "scale: y and x must have the same shape");
  detail::check_same_shape("scale", "x", x, y);
  static_assert(
      requires { ops_of<Backend>::scale(context, detail::output(y), detail::input(x), factor); },
      "scale: the backend has no such operation for these arguments");
  ops_of<Backend>::scale(context, detail::output(y), detail::input(x), factor);
}

/// y[i] += factor * x[i]                            y, x of one shape and element type
///
/// One fused multiply-add per element where the machine has it.
template <class S, class Shape, class X, class ShapeX, class Backend>
void axpy(context<Backend>& context,
          view<S, Shape, Backend> y,
          detail::arithmetic_t<S> factor,
          view<X, ShapeX, Backend> x) {
  static_assert(scalar<S> && detail::same_element<S, X>,
                "axpy: y must be writable, and y and x of one element type: f64, f32 or bf16");
  static_assert(detail::same_shape<Shape, ShapeX>, "axpy: y and x must have the same shape");
  detail::check_same_shape("axpy", "x", x, y);
  static_assert(
      requires { ops_of<Backend>::axpy(context, detail::output(y), factor, detail::input(x)); },
      "axpy: the backend has no such operation for these arguments");
  ops_of<Backend>::axpy(context, detail::output(y), factor, detail::input(x));
}

/// y[i] = function(x[i])                            y, x of one shape; element types may differ
///
/// The function gets accumulate_t of x's element and returns what converts to accumulate_t of y's.
/// It is called once per element, from several threads at once and in no order, and must not throw.
///
/// Where elements lie on a device, the function goes there: it is copied bit by bit, and the
/// device's compiler must be able to call it. For CUDA, give a type whose operator() is marked
/// MTP_HOST_DEVICE (core/config.hpp); a lambda needs nvcc's option --extended-lambda.
template <class S, class Shape, class X, class ShapeX, class Backend, class Function>
void transform(context<Backend>& context,
               view<S, Shape, Backend> y,
               view<X, ShapeX, Backend> x,
               const Function& function) {
  static_assert(!std::is_const_v<S>, "transform: y must be writable");
  static_assert(
      std::is_invocable_r_v<detail::arithmetic_t<S>, const Function&, detail::arithmetic_t<X>>,
      "transform: the function must take an element of x and return one of y");
  static_assert(detail::same_shape<Shape, ShapeX>, "transform: y and x must have the same shape");
  detail::check_same_shape("transform", "x", x, y);
  static_assert(
      requires {
        ops_of<Backend>::transform(context, detail::output(y), detail::input(x), function);
      },
      "transform: the backend has no such operation for these arguments");
  ops_of<Backend>::transform(context, detail::output(y), detail::input(x), function);
}

/// y[i] = function(a[i], b[i])                      y, a, b of one shape; otherwise as with one
/// input
template <class S,
          class Shape,
          class A,
          class ShapeA,
          class B,
          class ShapeB,
          class Backend,
          class Function>
void transform(context<Backend>& context,
               view<S, Shape, Backend> y,
               view<A, ShapeA, Backend> a,
               view<B, ShapeB, Backend> b,
               const Function& function) {
  static_assert(!std::is_const_v<S>, "transform: y must be writable");
  static_assert(std::is_invocable_r_v<detail::arithmetic_t<S>,
                                      const Function&,
                                      detail::arithmetic_t<A>,
                                      detail::arithmetic_t<B>>,
                "transform: the function must take elements of a and b and return one of y");
  static_assert(detail::same_shape<Shape, ShapeA> && detail::same_shape<Shape, ShapeB>,
                "transform: y, a and b must have the same shape");
  detail::check_same_shape("transform", "a", a, y);
  detail::check_same_shape("transform", "b", b, y);
  static_assert(
      requires {
        ops_of<Backend>::transform(
            context, detail::output(y), detail::input(a), detail::input(b), function);
      },
      "transform: the backend has no such operation for these arguments");
  ops_of<Backend>::transform(
      context, detail::output(y), detail::input(a), detail::input(b), function);
}

/// y[..., c] = x[..., c] + row[c]                   y, x [..., C], row [C], one element type
template <class S, class Shape, class X, class ShapeX, class R, class ShapeR, class Backend>
void broadcast_add(context<Backend>& context,
                   view<S, Shape, Backend> y,
                   view<X, ShapeX, Backend> x,
                   view<R, ShapeR, Backend> row) {
  static_assert(
      scalar<S> && detail::same_element<S, X> && detail::same_element<S, R>,
      "broadcast_add: y must be writable, and y, x and row of one element type: f64, f32 or bf16");
  static_assert(detail::same_shape<Shape, ShapeX>,
                "broadcast_add: y and x must have the same shape");
  static_assert(Shape::rank >= 1 && ShapeR::rank == 1, "broadcast_add: row must be a vector");
  if constexpr (Shape::rank >= 1 && ShapeR::rank == 1) {
    static_assert(detail::may_equal(Shape::static_sizes.back(), ShapeR::static_sizes.back()),
                  "broadcast_add: row must be as long as the last dimension of x");
    detail::check_same_shape("broadcast_add", "x", x, y);
    check(row.extent(0) == y.extent(Shape::rank - 1),
          "broadcast_add: expected row of shape [",
          y.extent(Shape::rank - 1),
          "], got ",
          row.shape());
    static_assert(
        requires {
          ops_of<Backend>::broadcast_add(
              context, detail::output(y), detail::input(x), detail::input(row));
        },
        "broadcast_add: the backend has no such operation for these arguments");
    ops_of<Backend>::broadcast_add(
        context, detail::output(y), detail::input(x), detail::input(row));
  }
}

/// @cond
// Tensors for views.
MTP_TAKES_TENSORS(fill, as_operand)
MTP_TAKES_TENSORS(copy, as_operand)
MTP_TAKES_TENSORS(add, as_operand)
MTP_TAKES_TENSORS(subtract, as_operand)
MTP_TAKES_TENSORS(multiply, as_operand)
MTP_TAKES_TENSORS(divide, as_operand)
MTP_TAKES_TENSORS(scale, as_operand)
MTP_TAKES_TENSORS(axpy, as_operand)
MTP_TAKES_TENSORS(transform, as_operand)
MTP_TAKES_TENSORS(broadcast_add, as_operand)

// What calls are told that fit no operation above.
template <class Call = void>
void fill(detail::any, detail::any, detail::any) {
  static_assert(detail::never<Call>,
                "fill: expected (context, y, value), y a view of the context's backend");
}
template <class Call = void>
void copy(detail::any, detail::any, detail::any) {
  static_assert(detail::never<Call>, "copy: expected (context, y, x), views of one backend");
}
template <class Call = void>
void add(detail::any, detail::any, detail::any, detail::any) {
  static_assert(detail::never<Call>, "add: expected (context, y, a, b), views of one backend");
}
template <class Call = void>
void subtract(detail::any, detail::any, detail::any, detail::any) {
  static_assert(detail::never<Call>, "subtract: expected (context, y, a, b), views of one backend");
}
template <class Call = void>
void multiply(detail::any, detail::any, detail::any, detail::any) {
  static_assert(detail::never<Call>, "multiply: expected (context, y, a, b), views of one backend");
}
template <class Call = void>
void divide(detail::any, detail::any, detail::any, detail::any) {
  static_assert(detail::never<Call>, "divide: expected (context, y, a, b), views of one backend");
}
template <class Call = void>
void scale(detail::any, detail::any, detail::any, detail::any) {
  static_assert(detail::never<Call>,
                "scale: expected (context, y, x, factor), y and x views of one backend");
}
template <class Call = void>
void axpy(detail::any, detail::any, detail::any, detail::any) {
  static_assert(detail::never<Call>,
                "axpy: expected (context, y, factor, x), y and x views of one backend");
}
template <class Call = void>
void transform(detail::any, detail::any, detail::any, detail::any) {
  static_assert(detail::never<Call>,
                "transform: expected (context, y, x, function), y and x views of one backend");
}
template <class Call = void>
void transform(detail::any, detail::any, detail::any, detail::any, detail::any) {
  static_assert(
      detail::never<Call>,
      "transform: expected (context, y, a, b, function), y, a and b views of one backend");
}
template <class Call = void>
void broadcast_add(detail::any, detail::any, detail::any, detail::any) {
  static_assert(detail::never<Call>,
                "broadcast_add: expected (context, y, x, row), views of one backend");
}
/// @endcond

}  // namespace mtp::inline MTP_ABI
