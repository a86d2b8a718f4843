// Tools for overloads that accept a wrong call in order to fail with a readable message.
#pragma once

#include <concepts>
#include <type_traits>

#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI::detail {

/// False, but evaluated only when a template is instantiated.
template <class...>
inline constexpr bool never = false;

/// Converts from anything. An overload with `any` parameters is a worse match than any declaration
/// that fits, and the only match for a wrong call. Such an overload is a template, so its assertion
/// fails only when it is called.
struct any {
  template <class T>
  any(const T&) {}
};

/// The result type of a wrong call. Asking for the type is allowed; making the call fails with the
/// message.
struct refusal {};

/// The result type of a function with these conditions as assertions: void where they hold.
template <bool... Conditions>
using void_if = std::conditional_t<(Conditions && ...), void, refusal>;

/// Whether a function with this result type writes into its first argument; a wrong call counts
/// too.
template <class Result>
inline constexpr bool writes = std::is_void_v<Result> || std::is_same_v<Result, refusal>;

/// T, deduced by T&&, is a temporary or moved-from object of `Type`. An object that keeps its
/// address would outlive it.
template <class T, class Type>
concept temporary = !std::is_reference_v<T> && std::derived_from<std::remove_const_t<T>, Type>;

/// Declared only: an argument for the constructor that a refusing constructor delegates to.
template <class T>
T refused();

}  // namespace mtp::inline MTP_ABI::detail
