// Reductions over any dimension, and reductions whose result is a new tensor.
//
// With a view x [.., n, ..] and an axis, the dimension of size n:
//
//   sum(context, y, x, axis)   y[.., ..] = sum over i of x[.., i, ..]
//   sum(context, x, axis)      the same in a new tensor of dims<rank - 1>, which it allocates
//   sum(context, x)            over all elements, a new tensor of rank 0
//
// mean, maximum, minimum and argmax have the same forms. y has the shape of x without the
// dimension, or with size 1 there, so that y broadcasts against x. The promises of ops/reduce.hpp
// about the order of a sum, NaN, ties and exceptions hold for the axis as for the last dimension.
// New tensors have x's element type; those of argmax hold index_t.
#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/reduce.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// x with dimension `axis` moved to the end.
template <class X>
typename X::part_type with_axis_last(const char* function, const X& x, int axis) {
  static_assert(X::rank > 0, "reduce: a view of rank 0 has no dimension to reduce over");
  check(axis >= 0 && axis < X::rank,
        function,
        ": expected an axis in [0, ",
        X::rank,
        "), got ",
        axis);
  auto sizes = x.shape().sizes();
  auto strides = x.strides();
  for (std::size_t d = static_cast<std::size_t>(axis); d + 1 < sizes.size(); ++d) {
    sizes[d] = sizes[d + 1];
    strides[d] = strides[d + 1];
  }
  sizes.back() = x.extent(axis);
  strides.back() = x.stride(axis);
  return {x.data(), dims<X::rank>(sizes), strides};
}

/// y without the reduced dimension, if y keeps it.
template <class X, class Y>
auto without_axis([[maybe_unused]] const char* function, const Y& y, [[maybe_unused]] int axis) {
  static_assert(Y::rank == X::rank - 1 || Y::rank == X::rank,
                "reduce: y must have the shape of x without the dimension, or with its size 1");
  if constexpr (Y::rank == X::rank) {
    check(y.extent(axis) == 1,
          function,
          ": expected y of size 1 in dimension ",
          axis,
          ", got ",
          y.shape());
    return y.select(axis, 0);
  } else {
    return typename Y::part_type(y);
  }
}

/// The shape of x without a dimension.
template <class X>
dims<X::rank - 1> shape_without(const X& with_axis_last) {
  std::array<index_t, static_cast<std::size_t>(X::rank - 1)> sizes{};
  for (std::size_t d = 0; d < sizes.size(); ++d) {
    sizes[d] = with_axis_last.extent(static_cast<int>(d));
  }
  return dims<X::rank - 1>(sizes);
}

}  // namespace detail

/// y = sum of x along `axis`; 0 for no elements
template <class S, class Shape, class X, class ShapeX, class Backend>
void sum(context<Backend>& context,
         view<S, Shape, Backend> y,
         view<X, ShapeX, Backend> x,
         int axis) {
  const auto rows = detail::with_axis_last("sum", x, axis);
  sum(context, detail::without_axis<view<X, ShapeX, Backend>>("sum", y, axis), rows);
}
/// The same, in a new tensor.
template <class X, class Shape, class Backend>
[[nodiscard]] auto sum(context<Backend>& context, view<X, Shape, Backend> x, int axis) {
  const auto rows = detail::with_axis_last("sum", x, axis);
  tensor<std::remove_const_t<X>, dims<Shape::rank - 1>, Backend> y(
      detail::shape_without(rows));  // x without the axis
  sum(context, y.view(), rows);
  return y;
}
/// Over all elements, in a new tensor of rank 0.
template <class X, class Shape, class Backend>
[[nodiscard]] auto sum(context<Backend>& context, view<X, Shape, Backend> x) {
  tensor<std::remove_const_t<X>, extents<>, Backend> y;  // []
  sum(context, y.view(), x);
  return y;
}

/// y = sum of x along `axis` / number of elements; NaN for none
template <class S, class Shape, class X, class ShapeX, class Backend>
void mean(context<Backend>& context,
          view<S, Shape, Backend> y,
          view<X, ShapeX, Backend> x,
          int axis) {
  const auto rows = detail::with_axis_last("mean", x, axis);
  mean(context, detail::without_axis<view<X, ShapeX, Backend>>("mean", y, axis), rows);
}
/// The same, in a new tensor.
template <class X, class Shape, class Backend>
[[nodiscard]] auto mean(context<Backend>& context, view<X, Shape, Backend> x, int axis) {
  const auto rows = detail::with_axis_last("mean", x, axis);
  tensor<std::remove_const_t<X>, dims<Shape::rank - 1>, Backend> y(
      detail::shape_without(rows));  // x without the axis
  mean(context, y.view(), rows);
  return y;
}
/// Over all elements, in a new tensor of rank 0.
template <class X, class Shape, class Backend>
[[nodiscard]] auto mean(context<Backend>& context, view<X, Shape, Backend> x) {
  tensor<std::remove_const_t<X>, extents<>, Backend> y;  // []
  mean(context, y.view(), x);
  return y;
}

/// y = largest element of x along `axis`; NaN if one is NaN, -inf for none
template <class S, class Shape, class X, class ShapeX, class Backend>
void maximum(context<Backend>& context,
             view<S, Shape, Backend> y,
             view<X, ShapeX, Backend> x,
             int axis) {
  const auto rows = detail::with_axis_last("maximum", x, axis);
  maximum(context, detail::without_axis<view<X, ShapeX, Backend>>("maximum", y, axis), rows);
}
/// The same, in a new tensor.
template <class X, class Shape, class Backend>
[[nodiscard]] auto maximum(context<Backend>& context, view<X, Shape, Backend> x, int axis) {
  const auto rows = detail::with_axis_last("maximum", x, axis);
  tensor<std::remove_const_t<X>, dims<Shape::rank - 1>, Backend> y(
      detail::shape_without(rows));  // x without the axis
  maximum(context, y.view(), rows);
  return y;
}
/// Over all elements, in a new tensor of rank 0.
template <class X, class Shape, class Backend>
[[nodiscard]] auto maximum(context<Backend>& context, view<X, Shape, Backend> x) {
  tensor<std::remove_const_t<X>, extents<>, Backend> y;  // []
  maximum(context, y.view(), x);
  return y;
}

/// y = smallest element of x along `axis`; NaN if one is NaN, +inf for none
template <class S, class Shape, class X, class ShapeX, class Backend>
void minimum(context<Backend>& context,
             view<S, Shape, Backend> y,
             view<X, ShapeX, Backend> x,
             int axis) {
  const auto rows = detail::with_axis_last("minimum", x, axis);
  minimum(context, detail::without_axis<view<X, ShapeX, Backend>>("minimum", y, axis), rows);
}
/// The same, in a new tensor.
template <class X, class Shape, class Backend>
[[nodiscard]] auto minimum(context<Backend>& context, view<X, Shape, Backend> x, int axis) {
  const auto rows = detail::with_axis_last("minimum", x, axis);
  tensor<std::remove_const_t<X>, dims<Shape::rank - 1>, Backend> y(
      detail::shape_without(rows));  // x without the axis
  minimum(context, y.view(), rows);
  return y;
}
/// Over all elements, in a new tensor of rank 0.
template <class X, class Shape, class Backend>
[[nodiscard]] auto minimum(context<Backend>& context, view<X, Shape, Backend> x) {
  tensor<std::remove_const_t<X>, extents<>, Backend> y;  // []
  minimum(context, y.view(), x);
  return y;
}

/// y = index of the largest element of x along `axis`; -1 for none
template <class S, class Shape, class X, class ShapeX, class Backend>
void argmax(context<Backend>& context,
            view<S, Shape, Backend> y,
            view<X, ShapeX, Backend> x,
            int axis) {
  const auto rows = detail::with_axis_last("argmax", x, axis);
  argmax(context, detail::without_axis<view<X, ShapeX, Backend>>("argmax", y, axis), rows);
}
/// The same, in a new tensor.
template <class X, class Shape, class Backend>
[[nodiscard]] auto argmax(context<Backend>& context, view<X, Shape, Backend> x, int axis) {
  const auto rows = detail::with_axis_last("argmax", x, axis);
  tensor<index_t, dims<Shape::rank - 1>, Backend> y(
      detail::shape_without(rows));  // x without the axis
  argmax(context, y.view(), rows);
  return y;
}
/// Over all elements, in a new tensor of rank 0.
template <class X, class Shape, class Backend>
[[nodiscard]] auto argmax(context<Backend>& context, view<X, Shape, Backend> x) {
  tensor<index_t, extents<>, Backend> y;  // []
  argmax(context, y.view(), x);
  return y;
}

}  // namespace mtp::inline MTP_ABI
