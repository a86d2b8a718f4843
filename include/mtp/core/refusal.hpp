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

/// The result of a call that does not compile. Its type can be asked for; only who makes the call
/// is told the sentence.
struct refusal {};

/// The result of a function whose assertions are these conditions: void where they hold.
template <bool... Conditions>
using void_if = std::conditional_t<(Conditions && ...), void, refusal>;

/// A function with this result writes into its first argument, or would if the call compiled.
template <class Result>
inline constexpr bool writes = std::is_void_v<Result> || std::is_same_v<Result, refusal>;

/// T, as deduced by T&&, is a temporary of `Type` or one that is moved from: it would not outlive
/// an object that keeps its address.
template <class T, class Type>
concept temporary = !std::is_reference_v<T> && std::derived_from<std::remove_const_t<T>, Type>;

/// Stands for an argument where a constructor that only refuses has to call one that does not.
template <class T>
T refused();

}  // namespace mtp::inline MTP_ABI::detail
