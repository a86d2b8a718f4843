// Checks of views, at compile time and at run time, for the generic operations.
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>

#include "mtp/core/broadcast.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/operand.hpp"
#include "mtp/core/refusal.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::detail {

template <class T>
struct arithmetic {
  using type = T;
};
template <scalar T>
struct arithmetic<T> {
  using type = accumulate_t<T>;
};

/// The argument and result type of a function of one element: the accumulator type of scalars, else
/// the element type itself.
template <class T>
using arithmetic_t = typename arithmetic<std::remove_const_t<T>>::type;

/// Two shapes, or their first `dimensions` sizes, may be equal as far as the compiler can tell.
template <class A, class B>
constexpr bool may_equal(int dimensions) {
  for (std::size_t d = 0; d < static_cast<std::size_t>(dimensions); ++d) {
    if (!may_equal(A::static_sizes[d], B::static_sizes[d])) {
      return false;
    }
  }
  return true;
}

template <class A, class B>
inline constexpr bool same_shape = [] {
  if constexpr (A::rank == B::rank) {
    return may_equal<A, B>(A::rank);
  } else {
    return false;
  }
}();

/// The same element type up to const.
template <class Y, class X>
inline constexpr bool same_element = std::same_as<Y, std::remove_const_t<X>>;

/// All elements have one scalar type, and the first is writable.
template <class Y, class... X>
inline constexpr bool one_element = scalar<Y> && (same_element<Y, X> && ...);

/// Views as the backend receives them: with dynamic sizes, so that one instantiation serves all
/// static shapes.
template <class Element, class Shape, class Backend>
view<const Element, dims<Shape::rank>, Backend> input(const view<Element, Shape, Backend>& x) {
  return x;
}
template <class Element, class Shape, class Backend>
view<Element, dims<Shape::rank>, Backend> output(const view<Element, Shape, Backend>& y) {
  return y;
}

template <class A, class B>
void check_same_shape(const char* function, const char* name, const A& actual, const B& expected) {
  check(actual.shape() == expected.shape(),
        function,
        ": expected ",
        name,
        " of shape ",
        expected.shape(),
        ", got ",
        actual.shape());
}

}  // namespace mtp::inline MTP_ABI::detail
