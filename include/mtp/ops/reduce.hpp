// Reductions over the last dimension, or over all elements.
//
// The rank of y chooses. With x [..., C]:
//   y [...]  (x without its last dimension)   y[...] = reduction over c of x[..., c]
//   y []     (rank 0)                         y = reduction over all elements in row-major order
// Views may have any strides; y must not overlap x. Results are overwritten (=). The order of a sum
// depends only on the number of its elements: not on strides, threads or neighbouring rows. Shapes
// that do not fit throw mtp::error before anything is written.
#pragma once

#include <concepts>
#include <limits>
#include <type_traits>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/view_checks.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// y is x without its last dimension, or has rank 0, as far as the compiler can tell.
template <class Shape, class ShapeX>
inline constexpr bool reduces = [] {
  if constexpr (Shape::rank == 0) {
    return true;
  } else if constexpr (Shape::rank == ShapeX::rank - 1) {
    return may_equal<Shape, ShapeX>(Shape::rank);
  } else {
    return false;
  }
}();

/// y has the element type of x or its accumulator type.
template <class S, class X>
inline constexpr bool reduced_element = [] {
  if constexpr (scalar<std::remove_const_t<X>>) {
    return same_element<S, X> || std::same_as<S, accumulate_t<std::remove_const_t<X>>>;
  } else {
    return false;
  }
}();

/// The type of indices.
template <class Index>
inline constexpr bool index_element = std::same_as<Index, token_t> || std::same_as<Index, index_t>;

template <class Y, class X>
void check_reduced(const char* function, const Y& y, const X& x) {
  for (int d = 0; d < Y::rank; ++d) {
    check(y.extent(d) == x.extent(d),
          function,
          ": expected y of the shape of x ",
          x.shape(),
          " without its last dimension, got ",
          y.shape());
  }
}

}  // namespace detail

/// y = sum of x; 0 for no elements
///
/// Sums have type accumulate_t and are pairwise. y has x's element type or accumulate_t of it.
template <class S, class Shape, class X, class ShapeX, class Backend>
detail::void_if<detail::reduced_element<S, X>, detail::reduces<Shape, ShapeX>> sum(
    context<Backend>& context, view<S, Shape, Backend> y, view<X, ShapeX, Backend> x) {
  static_assert(detail::reduced_element<S, X>,
                "sum: y must be writable and have x's element type or its accumulator type");
  static_assert(detail::reduces<Shape, ShapeX>,
                "sum: y must have the shape of x without its last dimension, or rank 0");
  detail::check_reduced("sum", y, x);
  MTP_DISPATCH(sum, context, detail::output(y), detail::input(x));
}

/// y = sum of x / number of elements; NaN for no elements. Otherwise as sum.
template <class S, class Shape, class X, class ShapeX, class Backend>
detail::void_if<detail::reduced_element<S, X>, detail::reduces<Shape, ShapeX>> mean(
    context<Backend>& context, view<S, Shape, Backend> y, view<X, ShapeX, Backend> x) {
  static_assert(detail::reduced_element<S, X>,
                "mean: y must be writable and have x's element type or its accumulator type");
  static_assert(detail::reduces<Shape, ShapeX>,
                "mean: y must have the shape of x without its last dimension, or rank 0");
  detail::check_reduced("mean", y, x);
  MTP_DISPATCH(mean, context, detail::output(y), detail::input(x));
}

/// y = largest element of x; NaN if one is NaN, -inf for no elements
///
/// Of zeros with different signs, the result is the first.
template <class S, class Shape, class X, class ShapeX, class Backend>
detail::void_if<detail::reduced_element<S, X>, detail::reduces<Shape, ShapeX>> maximum(
    context<Backend>& context, view<S, Shape, Backend> y, view<X, ShapeX, Backend> x) {
  static_assert(detail::reduced_element<S, X>,
                "maximum: y must be writable and have x's element type or accumulate_t of it");
  static_assert(detail::reduces<Shape, ShapeX>,
                "maximum: y must have the shape of x without its last dimension, or rank 0");
  detail::check_reduced("maximum", y, x);
  MTP_DISPATCH(maximum, context, detail::output(y), detail::input(x));
}

/// y = smallest element of x; NaN if one is NaN, +inf for no elements. Otherwise as maximum.
template <class S, class Shape, class X, class ShapeX, class Backend>
detail::void_if<detail::reduced_element<S, X>, detail::reduces<Shape, ShapeX>> minimum(
    context<Backend>& context, view<S, Shape, Backend> y, view<X, ShapeX, Backend> x) {
  static_assert(detail::reduced_element<S, X>,
                "minimum: y must be writable and have x's element type or accumulate_t of it");
  static_assert(detail::reduces<Shape, ShapeX>,
                "minimum: y must have the shape of x without its last dimension, or rank 0");
  detail::check_reduced("minimum", y, x);
  MTP_DISPATCH(minimum, context, detail::output(y), detail::input(x));
}

/// y = index of the largest element of x, along the last dimension or in row-major order
///
/// Ties go to the lowest index. NaN never wins; the result is -1 if all elements are NaN or there
/// are none. y holds token_t or index_t. Throws mtp::error if its type cannot hold every index.
template <class Index, class Shape, class X, class ShapeX, class Backend>
detail::void_if<detail::index_element<Index>,
                scalar<std::remove_const_t<X>>,
                detail::reduces<Shape, ShapeX>>
argmax(context<Backend>& context, view<Index, Shape, Backend> y, view<X, ShapeX, Backend> x) {
  static_assert(detail::index_element<Index>,
                "argmax: y must be writable and hold token_t or index_t");
  static_assert(scalar<std::remove_const_t<X>>,
                "argmax: the elements of x must be f64, f32 or bf16");
  static_assert(detail::reduces<Shape, ShapeX>,
                "argmax: y must have the shape of x without its last dimension, or rank 0");
  detail::check_reduced("argmax", y, x);
  index_t candidates = x.count();
  if constexpr (Shape::rank > 0) {
    candidates = x.extent(ShapeX::rank - 1);
  }
  check(candidates - 1 <= static_cast<index_t>((std::numeric_limits<Index>::max)()),
        "argmax: the elements of y cannot hold indices of ",
        candidates,
        " candidates");
  MTP_DISPATCH(argmax, context, detail::output(y), detail::input(x));
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(sum, as_operand, "expected (context, y, x), views of one backend")
MTP_OPERATION(mean, as_operand, "expected (context, y, x), views of one backend")
MTP_OPERATION(maximum, as_operand, "expected (context, y, x), views of one backend")
MTP_OPERATION(minimum, as_operand, "expected (context, y, x), views of one backend")
MTP_OPERATION(argmax, as_operand, "expected (context, y, x), views of one backend")
/// @endcond

}  // namespace mtp::inline MTP_ABI
