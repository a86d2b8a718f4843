// Arguments of operations: views, and tensors in place of views.
#pragma once

#include <type_traits>
#include <utility>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI {

template <class Element, extents_type Shape, class Backend>
class tensor;

namespace detail {

template <class T>
inline constexpr bool is_tensor = false;
template <class Element, class Shape, class Backend>
inline constexpr bool is_tensor<tensor<Element, Shape, Backend>> = true;

template <class T>
inline constexpr bool is_view = false;
template <class Element, class Shape, class Backend>
inline constexpr bool is_view<view<Element, Shape, Backend>> = true;

/// A view or a tensor, deduced as a forwarding reference.
template <class T>
concept operand = is_view<std::remove_cvref_t<T>> || is_tensor<std::remove_cvref_t<T>>;

/// One of the arguments, deduced as forwarding references, is a tensor.
template <class... Arguments>
concept some_tensor = (is_tensor<std::remove_cvref_t<Arguments>> || ...);

/// Not a tensor, or one that outlives the call and is not const.
template <class Argument>
inline constexpr bool may_be_result =
    !is_tensor<std::remove_cvref_t<Argument>> ||
    (std::is_lvalue_reference_v<Argument> && !std::is_const_v<std::remove_reference_t<Argument>>);

/// A number that a call passes on. It converts to the parameter's type as the caller's literal
/// would. No fraction is lost: a floating-point number does not become an integer.
template <class T>
struct number {
  T value;
  template <class To>
  requires(std::is_arithmetic_v<To> && (std::is_integral_v<T> || std::is_floating_point_v<To>))
  operator To() const {
    return in_default_environment([this] { return static_cast<To>(value); });
  }
};

/// The argument that an operation receives: for a tensor its view, which is read-only if the tensor
/// is const or temporary. Other arguments stay as they are.
template <class Argument>
constexpr decltype(auto) as_operand(Argument&& argument) {
  using plain = std::remove_cvref_t<Argument>;
  if constexpr (is_tensor<plain> && std::is_lvalue_reference_v<Argument>) {
    return argument.view();
  } else if constexpr (is_tensor<plain>) {
    return std::as_const(argument).view();
  } else if constexpr (std::is_arithmetic_v<plain>) {
    return number<plain>{argument};
  } else {
    return std::forward<Argument>(argument);
  }
}

/// The same with dynamic sizes for tensors, for operations that deduce from views of dims<rank>.
template <class Argument>
constexpr decltype(auto) as_dynamic_operand(Argument&& argument) {
  using plain = std::remove_cvref_t<Argument>;
  if constexpr (is_tensor<plain>) {
    const auto x = as_operand(std::forward<Argument>(argument));
    using view_type = std::remove_const_t<decltype(x)>;
    return view<typename view_type::element_type,
                dims<view_type::rank>,
                typename view_type::backend_type>(x);
  } else {
    return as_operand(std::forward<Argument>(argument));
  }
}

}  // namespace detail
}  // namespace mtp::inline MTP_ABI
