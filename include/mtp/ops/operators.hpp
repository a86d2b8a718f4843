// Operators on tensors and views, and operations that return new tensors.
//
// Each `a + b` allocates its result. That is good for a few lines, not for a loop, where
// add(context, y, a, b) writes into an existing tensor. Operands broadcast against each other
// (core/broadcast.hpp) and have one element type and backend; one of the two may be a number. The
// result is a contiguous tensor. It has the operands' shape type if they share one, else
// dims<rank>.
//
// Operators are for memory of the host. They take no context and compute on the calling thread;
// add(context, a, b) and its like use the context's threads and work on any backend. The bits are
// the same. Shapes that do not broadcast throw mtp::error.
#pragma once

#include <concepts>
#include <type_traits>
#include <utility>

#include "mtp/core/backend.hpp"
#include "mtp/core/broadcast.hpp"
#include "mtp/core/config.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/operand.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// The shape of a result; it has the operands' type if they share one.
template <class A, class B>
auto result_shape(const A& a, const B& b) {
  if constexpr (std::same_as<A, B>) {
    return A(broadcast_shape(a, b));
  } else {
    return broadcast_shape(a, b);
  }
}

/// A context for an operator, with the calling thread only.
template <class Backend>
auto operator_context() {
  static_assert(host_accessible<Backend>,
                "operator: the elements lie on a device, and an operator names no context; write "
                "mtp::add(context, a, b)");
  return backend_traits<Backend>::calling_thread();
}

template <class T>
concept arithmetic_number = std::is_arithmetic_v<std::remove_cvref_t<T>>;

/// Two operands, or an operand and a number.
template <class A, class B>
concept operands = (operand<A> && (operand<B> || arithmetic_number<B>)) ||
                   (arithmetic_number<A> && operand<B>);

template <class X>
using backend_of =
    typename std::remove_cvref_t<decltype(as_operand(std::declval<X>()))>::backend_type;

/// A number becomes a view of rank 0 with the other operand's element type; an operand becomes its
/// view.
template <class Other, class X>
auto as_view(const X& x, typename std::remove_cvref_t<Other>::value_type& memory) {
  if constexpr (arithmetic_number<X>) {
    using element = typename std::remove_cvref_t<Other>::value_type;
    memory = in_default_environment(
        [&] { return static_cast<element>(static_cast<arithmetic_t<element>>(x)); });
    return view<const element, extents<>, backend_of<const Other&>>(&memory, extents<>{});
  } else {
    return as_operand(x);
  }
}

/// Calls function(context, a, b) with the views of two operands of an operator.
template <class A, class B, class Function>
auto operate(const A& a, const B& b, const Function& function) {
  using any_operand = std::conditional_t<operand<A>, A, B>;
  auto context = operator_context<backend_of<const any_operand&>>();
  typename any_operand::value_type number{};
  return function(context, as_view<any_operand>(a, number), as_view<any_operand>(b, number));
}

/// Computes y = function(y, b) in place.
template <class Y, class B, class Function>
void operate_in_place(const Y& y, const B& b, const Function& function) {
  auto context = operator_context<typename Y::backend_type>();
  typename Y::value_type number{};
  function(context, y, as_view<Y>(b, number));
}

}  // namespace detail

/// The sum of a and b in a new tensor.
template <class A, class ShapeA, class B, class ShapeB, class Backend>
[[nodiscard]] auto add(context<Backend>& context,
                       view<A, ShapeA, Backend> a,
                       view<B, ShapeB, Backend> b) {
  static_assert(std::same_as<std::remove_const_t<A>, std::remove_const_t<B>>,
                "add: a and b must have one element type; convert elements with mtp::copy");
  const auto shape = detail::result_shape(a.shape(), b.shape());
  tensor<std::remove_const_t<A>, std::remove_const_t<decltype(shape)>, Backend> y(shape);  // both
  add(context, y.view(), a, b);
  return y;
}
/// a + b in a new tensor, on the calling thread. Allocates; add(context, y, a, b) does not.
template <class A, class B>
requires detail::operands<A, B>
[[nodiscard]] auto operator+(const A& a, const B& b) {
  return detail::operate(
      a, b, [](auto& context, auto left, auto right) { return add(context, left, right); });
}
/// y = y + b, in place and on the calling thread.
template <detail::operand Y, class B>
requires(detail::operand<B> || detail::arithmetic_number<B>) Y && operator+=(Y&& y, const B& b) {
  static_assert(
      detail::may_be_result<Y&&>,
      "operator+=: the left side receives the result, so it must be a variable that is not "
      "const");
  detail::operate_in_place(detail::as_operand(y), b, [](auto& context, auto left, auto right) {
    add(context, left, left, right);
  });
  return std::forward<Y>(y);
}

/// The difference of a and b in a new tensor.
template <class A, class ShapeA, class B, class ShapeB, class Backend>
[[nodiscard]] auto subtract(context<Backend>& context,
                            view<A, ShapeA, Backend> a,
                            view<B, ShapeB, Backend> b) {
  static_assert(std::same_as<std::remove_const_t<A>, std::remove_const_t<B>>,
                "subtract: a and b must have one element type; convert elements with mtp::copy");
  const auto shape = detail::result_shape(a.shape(), b.shape());
  tensor<std::remove_const_t<A>, std::remove_const_t<decltype(shape)>, Backend> y(shape);  // both
  subtract(context, y.view(), a, b);
  return y;
}
/// a - b in a new tensor, on the calling thread. Allocates; subtract(context, y, a, b) does not.
template <class A, class B>
requires detail::operands<A, B>
[[nodiscard]] auto operator-(const A& a, const B& b) {
  return detail::operate(
      a, b, [](auto& context, auto left, auto right) { return subtract(context, left, right); });
}
/// y = y - b, in place and on the calling thread.
template <detail::operand Y, class B>
requires(detail::operand<B> || detail::arithmetic_number<B>) Y && operator-=(Y&& y, const B& b) {
  static_assert(
      detail::may_be_result<Y&&>,
      "operator-=: the left side receives the result, so it must be a variable that is not "
      "const");
  detail::operate_in_place(detail::as_operand(y), b, [](auto& context, auto left, auto right) {
    subtract(context, left, left, right);
  });
  return std::forward<Y>(y);
}

/// The element-wise product of a and b in a new tensor.
template <class A, class ShapeA, class B, class ShapeB, class Backend>
[[nodiscard]] auto multiply(context<Backend>& context,
                            view<A, ShapeA, Backend> a,
                            view<B, ShapeB, Backend> b) {
  static_assert(std::same_as<std::remove_const_t<A>, std::remove_const_t<B>>,
                "multiply: a and b must have one element type; convert elements with mtp::copy");
  const auto shape = detail::result_shape(a.shape(), b.shape());
  tensor<std::remove_const_t<A>, std::remove_const_t<decltype(shape)>, Backend> y(shape);  // both
  multiply(context, y.view(), a, b);
  return y;
}
/// a * b in a new tensor, on the calling thread. Allocates; multiply(context, y, a, b) does not.
template <class A, class B>
requires detail::operands<A, B>
[[nodiscard]] auto operator*(const A& a, const B& b) {
  return detail::operate(
      a, b, [](auto& context, auto left, auto right) { return multiply(context, left, right); });
}
/// y = y * b, in place and on the calling thread.
template <detail::operand Y, class B>
requires(detail::operand<B> || detail::arithmetic_number<B>) Y && operator*=(Y&& y, const B& b) {
  static_assert(
      detail::may_be_result<Y&&>,
      "operator*=: the left side receives the result, so it must be a variable that is not "
      "const");
  detail::operate_in_place(detail::as_operand(y), b, [](auto& context, auto left, auto right) {
    multiply(context, left, left, right);
  });
  return std::forward<Y>(y);
}

/// The quotient of a and b in a new tensor.
template <class A, class ShapeA, class B, class ShapeB, class Backend>
[[nodiscard]] auto divide(context<Backend>& context,
                          view<A, ShapeA, Backend> a,
                          view<B, ShapeB, Backend> b) {
  static_assert(std::same_as<std::remove_const_t<A>, std::remove_const_t<B>>,
                "divide: a and b must have one element type; convert elements with mtp::copy");
  const auto shape = detail::result_shape(a.shape(), b.shape());
  tensor<std::remove_const_t<A>, std::remove_const_t<decltype(shape)>, Backend> y(shape);  // both
  divide(context, y.view(), a, b);
  return y;
}
/// a / b in a new tensor, on the calling thread. Allocates; divide(context, y, a, b) does not.
template <class A, class B>
requires detail::operands<A, B>
[[nodiscard]] auto operator/(const A& a, const B& b) {
  return detail::operate(
      a, b, [](auto& context, auto left, auto right) { return divide(context, left, right); });
}
/// y = y / b, in place and on the calling thread.
template <detail::operand Y, class B>
requires(detail::operand<B> || detail::arithmetic_number<B>) Y && operator/=(Y&& y, const B& b) {
  static_assert(
      detail::may_be_result<Y&&>,
      "operator/=: the left side receives the result, so it must be a variable that is not "
      "const");
  detail::operate_in_place(detail::as_operand(y), b, [](auto& context, auto left, auto right) {
    divide(context, left, left, right);
  });
  return std::forward<Y>(y);
}

/// -a in a new tensor, on the calling thread. Allocates.
template <detail::operand A>
[[nodiscard]] auto operator-(const A& a) {
  return a * -1;
}

}  // namespace mtp::inline MTP_ABI
