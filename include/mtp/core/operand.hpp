// What may stand for a view in the call of an operation: a tensor as well.
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

/// A view or a tensor, as it was forwarded.
template <class T>
concept operand = is_view<std::remove_cvref_t<T>> || is_tensor<std::remove_cvref_t<T>>;

/// One of the arguments, each as it was forwarded, is a tensor.
template <class... Arguments>
concept some_tensor = (is_tensor<std::remove_cvref_t<Arguments>> || ...);

/// A tensor that outlives the call and may change, or no tensor at all.
template <class Argument>
inline constexpr bool may_be_result =
    !is_tensor<std::remove_cvref_t<Argument>> ||
    (std::is_lvalue_reference_v<Argument> && !std::is_const_v<std::remove_reference_t<Argument>>);

/// A number on its way through a call: it converts to what the operation wants, as the caller's
/// literal would have. No fraction is lost: what is not an integer does not become one.
template <class T>
struct number {
  T value;
  template <class To>
  requires(std::is_arithmetic_v<To> && (std::is_integral_v<T> || std::is_floating_point_v<To>))
  operator To() const {
    return in_default_environment([this] { return static_cast<To>(value); });
  }
};

/// What an operation gets for an argument: the view of a tensor, which reads only if the tensor is
/// constant or temporary. Everything else stays what it is.
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

/// The same, with the sizes of tensors known at run time only: for operations that deduce from
/// views of dims<rank>.
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
