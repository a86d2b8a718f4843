// Macros that every operation uses: dispatch to the backend, overloads for tensors, and messages
// for calls that match nothing. They are macros because each repeats the operation's name.
#pragma once

#include <type_traits>
#include <utility>

#include "mtp/core/backend.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/operand.hpp"
#include "mtp/core/refusal.hpp"

/// The last line of an operation: calls the backend's function of the same name in the default
/// floating-point environment. If the backend has none for these arguments, compilation fails with
/// a message.
#define MTP_DISPATCH(operation, ...)                                         \
  static_assert(                                                             \
      requires { ops_of<Backend>::operation(__VA_ARGS__); },                 \
      #operation ": the backend has no such operation for these arguments"); \
  detail::in_default_environment([&] { ops_of<Backend>::operation(__VA_ARGS__); })

/// Adds an overload of `operation`, a function of a context and views, for calls with tensors:
/// detail::`operand` converts each argument (core/operand.hpp). Stands after the operation, in its
/// namespace.
#define MTP_TAKES_TENSORS(operation, operand)                                                   \
  template <class Context, class First, class... Rest>                                          \
  requires(detail::some_tensor<First, Rest...>) decltype(auto) operation(                       \
      Context& context, First&& first, Rest&&... rest) {                                        \
    if constexpr (detail::writes<decltype(operation(                                            \
                      context,                                                                  \
                      detail::operand(std::forward<First>(first)),                              \
                      detail::operand(std::forward<Rest>(rest))...))>) {                        \
      static_assert(detail::may_be_result<First>,                                               \
                    #operation                                                                  \
                    ": the first tensor receives the result, so it must be a variable that is " \
                    "not const");                                                               \
    }                                                                                           \
    return operation(context,                                                                   \
                     detail::operand(std::forward<First>(first)),                               \
                     detail::operand(std::forward<Rest>(rest))...);                             \
  }

/// Stands after an operation, in its namespace. Adds the overload for tensors, an overload that
/// fails with the message `usage`, a literal, for calls that match nothing, and the tag
/// op::`operation`, which `supported` takes (ops/supported.hpp).
#define MTP_OPERATION(operation, operand, usage)                                   \
  MTP_TAKES_TENSORS(operation, operand)                                            \
  template <class Call = void>                                                     \
  detail::refusal operation(detail::any, detail::any, ...) {                       \
    static_assert(detail::never<Call>, #operation ": " usage);                     \
    return {};                                                                     \
  }                                                                                \
  namespace op {                                                                   \
  struct operation {                                                               \
    template <class... Arguments>                                                  \
    static auto call(Arguments&&... arguments)                                     \
        -> decltype(mtp::operation(std::forward<Arguments>(arguments)...));        \
    template <class Operations, class... Arguments>                                \
    static auto dispatch(Arguments&&... arguments)                                 \
        -> decltype(Operations::operation(std::forward<Arguments>(arguments)...)); \
    template <class Argument>                                                      \
    static auto as_view(Argument&& argument)                                       \
        -> decltype(detail::operand(std::forward<Argument>(argument)));            \
  };                                                                               \
  }
