// Broadcasting by NumPy's rule: shapes become equal by repeating elements.
#pragma once

#include <array>
#include <cstddef>

#include "mtp/core/error.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/operand.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// Two sizes that may be equal as far as the compiler can tell.
constexpr bool may_equal(index_t a, index_t b) {
  return a == dynamic || b == dynamic || a == b;
}

/// X broadcasts to Y, as far as the compiler can tell.
template <class Y, class X>
inline constexpr bool broadcasts = [] {
  bool result = X::rank <= Y::rank;
  for (int d = 1; result && d <= X::rank; ++d) {
    const index_t from = X::static_sizes[static_cast<std::size_t>(X::rank - d)];
    const index_t to = Y::static_sizes[static_cast<std::size_t>(Y::rank - d)];
    result = from == 1 || may_equal(from, to);
  }
  return result;
}();

/// x seen under `shape`; `function` and `name` are for the message.
template <class Element, class ShapeX, class Backend, class Shape>
view<const Element, dims<Shape::rank>, Backend> broadcast(const char* function,
                                                          const char* name,
                                                          const view<Element, ShapeX, Backend>& x,
                                                          const Shape& shape) {
  constexpr int rank = Shape::rank;
  typename view<const Element, dims<rank>, Backend>::strides_type strides{};
  bool fits = ShapeX::rank <= rank;
  for (int d = 1; fits && d <= ShapeX::rank; ++d) {
    const index_t size = x.extent(ShapeX::rank - d);
    if (size == shape[rank - d]) {
      strides[static_cast<std::size_t>(rank - d)] = x.stride(ShapeX::rank - d);
    } else {
      fits = size == 1;
    }
  }
  check(fits,
        function,
        ": expected ",
        name,
        " of shape ",
        shape,
        ", or of one that broadcasts to it, got ",
        x.shape());
  return {x.data(), dims<rank>(shape.sizes()), strides};
}

}  // namespace detail

/// The shape to which a and b broadcast together. Shapes are aligned at their last dimensions;
/// where one has size 1 or no dimension, the other's size counts: [4, 1, 3] and [2, 3] give [4, 2,
/// 3]. Throws mtp::error where two sizes differ and neither is 1.
template <extents_type A, extents_type B>
constexpr auto broadcast_shape(const A& a, const B& b) {
  constexpr int rank = A::rank > B::rank ? A::rank : B::rank;
  std::array<index_t, static_cast<std::size_t>(rank)> sizes{};
  for (int d = 1; d <= rank; ++d) {
    const index_t left = d <= A::rank ? a[A::rank - d] : 1;
    const index_t right = d <= B::rank ? b[B::rank - d] : 1;
    check(left == right || left == 1 || right == 1,
          "broadcast_shape: ",
          a,
          " and ",
          b,
          " differ, and neither size is 1, in dimension ",
          rank - d,
          " of the result");
    sizes[static_cast<std::size_t>(rank - d)] = left == 1 ? right : left;
  }
  return dims<rank>(sizes);
}

/// A view of x with another shape, to which x broadcasts: dimensions of size 1 and missing leading
/// dimensions are repeated. No element moves; their stride becomes 0, so the view is read-only.
/// Throws mtp::error if x does not broadcast to `shape`.
template <detail::operand X, extents_type Shape>
[[nodiscard("broadcast_to: the operand itself stays as it is")]] auto broadcast_to(
    const X& x, const Shape& shape) {
  return detail::broadcast("broadcast_to", "x", detail::as_operand(x), shape);
}

}  // namespace mtp::inline MTP_ABI
