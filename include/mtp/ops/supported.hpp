// Whether a call of an operation compiles, as a constant.
//
//   supported<op::add, cpu, view<float, dims<2>, cpu>, tensor<float, dims<2>, cpu>&, ..>
//
// `requires { add(..) }` does not tell, because the overloads that fail with a readable message
// accept every call.
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "mtp/core/backend.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/operand.hpp"
#include "mtp/core/refusal.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI {

enum class update;

namespace op {
struct add;
struct subtract;
struct multiply;
struct divide;
struct transform;
struct where;
struct matmul;
struct rms_norm_forward;
struct rms_norm_backward;
}  // namespace op

namespace detail {

/// An argument as an operation reads it, and with dynamic sizes and another rank.
template <class T>
struct argument {
  using constant = T;
  template <int Rank>
  using ranked = T;
  static constexpr int rank = 0;
};
template <class Element, class Shape, class Backend>
struct argument<view<Element, Shape, Backend>> {
  using constant = view<const Element, Shape, Backend>;
  template <int Rank>
  using ranked = view<Element, dims<Rank>, Backend>;
  static constexpr int rank = Shape::rank;
};
template <class Element, class Backend>
struct argument<weight_view<Element, Backend>> {
  using constant = weight_view<const Element, Backend>;
  template <int Rank>
  using ranked = weight_view<Element, Backend>;
  static constexpr int rank = 0;
};

/// A declaration of the operation matches the call, and its conditions hold.
template <class Op, class Context, class... Arguments>
concept accepted = requires(Context& context, const Arguments&... arguments) {
  { Op::call(context, arguments...) } -> std::same_as<void>;
};

/// Inputs of these operations are passed to the backend with the rank of the result.
template <class Op>
concept broadcasts_inputs =
    std::same_as<Op, op::add> || std::same_as<Op, op::subtract> || std::same_as<Op, op::multiply> ||
    std::same_as<Op, op::divide> || std::same_as<Op, op::transform> || std::same_as<Op, op::where>;

/// The rank with which the backend receives argument `place` of rank `rank`; `first` is the rank of
/// the first argument.
template <class Op>
constexpr int dispatched_rank(std::size_t place, int rank, int first) {
  if constexpr (broadcasts_inputs<Op>) {
    return first;
  } else if constexpr (std::same_as<Op, op::rms_norm_forward>) {  // rows are heads of one
    return first == 2 && place != 3 ? rank + 1 : rank;
  } else if constexpr (std::same_as<Op, op::rms_norm_backward>) {
    return first == 2 && place != 1 && place != 5 ? rank + 1 : rank;
  } else {
    return rank;
  }
}

/// Whether one call is supported; its arguments are views and numbers.
template <class Op, class Backend, class... Arguments>
struct call_of {
  static constexpr bool is_accepted = accepted<Op, context<Backend>, Arguments...>;

  template <std::size_t Place, std::size_t... Each>
  static constexpr bool reads(std::index_sequence<Each...>) {
    return accepted<
        Op,
        context<Backend>,
        std::conditional_t<Each == Place, typename argument<Arguments>::constant, Arguments>...>;
  }

  /// The type that the backend receives: a view of const elements where the operation only reads.
  template <std::size_t Place, class Argument, class All, int First>
  using dispatched = typename argument<
      std::conditional_t<reads<Place>(All{}), typename argument<Argument>::constant, Argument>>::
      template ranked<dispatched_rank<Op>(Place, argument<Argument>::rank, First)>;

  template <class... Dispatched>
  static constexpr bool has() {
    return requires(context<Backend> & context, const Dispatched&... arguments) {
      Op::template dispatch<ops_of<Backend>>(context, arguments...);
    };
  }

  template <std::size_t... Each, class First, class... Rest>
  static constexpr bool backend_has(std::index_sequence<Each...> all,
                                    std::type_identity<First>,
                                    std::type_identity<Rest>...) {
    using places = decltype(all);
    constexpr int first = argument<First>::rank;
    if constexpr (std::same_as<Op, op::matmul> && sizeof...(Rest) == 2) {  // its mode has a default
      return has<dispatched<Each, Arguments, places, first>..., update>();
    } else {
      return has<dispatched<Each, Arguments, places, first>...>();
    }
  }

  static constexpr bool holds() {
    if constexpr (is_accepted) {
      return backend_has(std::index_sequence_for<Arguments...>{},
                         std::type_identity<Arguments>{}...);
    } else {
      return false;
    }
  }
};

template <class Op, class T>
using view_for = std::remove_cvref_t<decltype(Op::as_view(std::declval<T>()))>;

template <class Op, class Backend, class First, class... Rest>
constexpr bool is_supported() {
  if constexpr (!some_tensor<First, Rest...>) {
    return call_of<Op, Backend, std::remove_cvref_t<First>, std::remove_cvref_t<Rest>...>::holds();
  } else if constexpr (may_be_result<First>) {
    return call_of<Op, Backend, view_for<Op, First>, view_for<Op, Rest>...>::holds();
  } else {
    return false;
  }
}

}  // namespace detail

/// Whether Operation(context, arguments...) compiles for a context of the backend and arguments of
/// these types: a declaration matches, its conditions on element types, ranks and static shapes
/// hold, and the backend has the operation for them. Write a tensor as it is passed: tensor<..>&
/// for a variable, tensor<..> for a temporary.
///
/// Operation is a tag in namespace op; every operation that a backend carries out has one. The
/// operation's header must be included. Functions built on operations are not covered: reductions
/// with an axis or with a tensor as result (ask for the reduction over the last dimension),
/// functions of one element (ask for transform), concatenate and stack (ask for copy), and clone.
/// Their result types are deduced, so asking would compile their bodies, assertions included.
template <class Operation, class Backend, class... Arguments>
inline constexpr bool supported = false;
/// The same for a call with arguments.
template <class Operation, class Backend, class First, class... Rest>
inline constexpr bool supported<Operation, Backend, First, Rest...> =
    detail::is_supported<Operation, Backend, First, Rest...>();

}  // namespace mtp::inline MTP_ABI
