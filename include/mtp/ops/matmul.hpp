// The product of two matrices. For weights of linear maps see ops/linear.hpp.
#pragma once

#include <concepts>
#include <type_traits>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/view_checks.hpp"

namespace mtp::inline MTP_ABI {

/// Whether a product overwrites its output or adds to it.
enum class update {
  overwrite,   ///< c = a b
  accumulate,  ///< c += a b
};

namespace detail {

/// Products of elements of A and B are summed in the accumulator type of C.
template <class C, class A, class B>
inline constexpr bool mixes = scalar<C>&& scalar<std::remove_const_t<A>>&&
    scalar<std::remove_const_t<B>>&& std::same_as<arithmetic_t<C>, arithmetic_t<A>>&&
        std::same_as<arithmetic_t<C>, arithmetic_t<B>>;

/// C [M, N], A [M, K] and B [K, N], as far as the compiler can tell.
template <class C, class A, class B>
inline constexpr bool multiplies = [] {
  if constexpr (C::rank == 2 && A::rank == 2 && B::rank == 2) {
    return may_equal(A::static_sizes[1], B::static_sizes[0]) &&
           may_equal(C::static_sizes[0], A::static_sizes[0]) &&
           may_equal(C::static_sizes[1], B::static_sizes[1]);
  } else {
    return false;
  }
}();

}  // namespace detail

/// c[m, n] = sum over k of a[m, k] b[k, n], or c[m, n] += ... with update::accumulate
///
/// c [M, N], a [M, K], b [K, N], any strides: pass a transposed view for a transposed product.
/// Element types may differ if they share accumulate_t, as bf16 and f32 do; sums have type
/// accumulate_t and are rounded once. On the CPU, each element is one chain of multiply-adds over
/// k, in order, starting from 0 or from c[m, n]: the bits of row m depend only on row m of a (and
/// c) and on b, not on M or on threads. On CUDA this holds up to M = 16; beyond, a library chooses
/// the order by shapes, strides and alignment. c must not overlap a or b. Throws mtp::error on
/// wrong shapes and on too small a workspace.
template <class S, class Shape, class A, class ShapeA, class B, class ShapeB, class Backend>
detail::void_if<detail::mixes<S, A, B>, detail::multiplies<Shape, ShapeA, ShapeB>> matmul(
    context<Backend>& context,
    view<S, Shape, Backend> c,
    view<A, ShapeA, Backend> a,
    view<B, ShapeB, Backend> b,
    update mode = update::overwrite) {
  static_assert(scalar<S> && scalar<std::remove_const_t<A>> && scalar<std::remove_const_t<B>>,
                "matmul: c must be writable, and c, a and b hold f64, f32 or bf16");
  static_assert(std::same_as<detail::arithmetic_t<S>, detail::arithmetic_t<A>> &&
                    std::same_as<detail::arithmetic_t<S>, detail::arithmetic_t<B>>,
                "matmul: f64 does not mix with other element types");
  static_assert(Shape::rank == 2 && ShapeA::rank == 2 && ShapeB::rank == 2,
                "matmul: c, a and b must be matrices");
  if constexpr (Shape::rank == 2 && ShapeA::rank == 2 && ShapeB::rank == 2) {
    static_assert(detail::may_equal(ShapeA::static_sizes[1], ShapeB::static_sizes[0]),
                  "matmul: a must have as many columns as b has rows");
    static_assert(detail::may_equal(Shape::static_sizes[0], ShapeA::static_sizes[0]),
                  "matmul: c must have as many rows as a");
    static_assert(detail::may_equal(Shape::static_sizes[1], ShapeB::static_sizes[1]),
                  "matmul: c must have as many columns as b");
    check(a.extent(1) == b.extent(0),
          "matmul: expected b with ",
          a.extent(1),
          " rows, as many as a has columns, got ",
          b.shape());
    check(c.extent(0) == a.extent(0) && c.extent(1) == b.extent(1),
          "matmul: expected c of shape [",
          a.extent(0),
          ", ",
          b.extent(1),
          "], got ",
          c.shape());
    MTP_DISPATCH(matmul, context, detail::output(c), detail::input(a), detail::input(b), mode);
  }
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(matmul,
              as_operand,
              "expected (context, c, a, b, update), c, a and b views of one backend")
/// @endcond

}  // namespace mtp::inline MTP_ABI
