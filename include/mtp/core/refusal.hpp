// What overloads are made of that accept a wrong call, in order to say in a sentence why it does
// not compile.
#pragma once

#include <concepts>
#include <type_traits>

#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI::detail {

/// False, but not before a template is instantiated.
template <class...>
inline constexpr bool never = false;

/// Converts from anything. An overload that takes `any` in place of all arguments that matter is
/// the worse match for every call that fits, and the only one for the others. It has a template
/// argument of its own, so that its assertion waits for a call.
struct any {
  template <class T>
  any(const T&) {}
};

/// T, as deduced by T&&, is a temporary of `Type` or one that is moved from: it would not outlive
/// an object that keeps its address.
template <class T, class Type>
concept temporary = !std::is_reference_v<T> && std::derived_from<std::remove_const_t<T>, Type>;

/// Stands for an argument where a constructor that only refuses has to call one that does not.
template <class T>
T refused();

}  // namespace mtp::inline MTP_ABI::detail
