// Rotary position embedding, half-split as in Hugging Face's Llama (Su et al. 2021, arXiv
// 2104.09864, eq. 34).
#pragma once

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

template <class View, class Table>
void check_rope(
    const char* function, const View& x, const Table& table, index_t length, index_t first) {
  check_rows(function, "x", x);
  check_rows(function, "table", table);
  check(x.extent(2) % 2 == 0 && x.extent(2) == table.extent(1),
        function,
        ": expected an even head width equal to the table's ",
        table.extent(1),
        ", got ",
        x.extent(2));
  check(length > 0 && x.extent(0) % length == 0,
        function,
        ": ",
        x.extent(0),
        " rows are not a multiple of length ",
        length);
  check(first >= 0 && length <= table.extent(0) - first,
        function,
        ": positions [",
        first,
        ", ",
        first,
        " + ",
        length,
        ") do not lie in the table of ",
        table.extent(0));
}

}  // namespace detail

/// With a = angle(p, e) = p * theta^(-2e / E) at position p:
///
///     x[n, h, e]       <- x[n, h, e] cos a - x[n, h, e + E/2] sin a
///     x[n, h, e + E/2] <- x[n, h, e + E/2] cos a + x[n, h, e] sin a        for e < E/2
///
/// In place. x [N, H, E], rows may be strided, E even. Row n stands at position first + n % length.
/// table [P, E] holds cos a in its first half of columns and sin a in its second, in accumulate_t
/// of the elements. Row-invariant. Throws mtp::error on wrong shapes and on positions outside the
/// table.
template <scalar S, class Backend>
void rope_forward(context<Backend>& context,
                  view<S, dims<3>, Backend> x,
                  in_sums<S, Backend> table,
                  index_t length,
                  index_t first) {
  detail::check_rope("rope_forward", x, table, length, first);
  MTP_DISPATCH(rope_forward, context, x, table, length, first);
}

/// The same with row n at positions[n].  [N]
/// Throws mtp::error on wrong shapes and, where the host sees the positions, for those outside the
/// table; else such rows stay as they are.
template <scalar S, class Backend>
void rope_forward(context<Backend>& context,
                  view<S, dims<3>, Backend> x,
                  in_sums<S, Backend> table,
                  in_positions<Backend> positions) {
  detail::check_rope("rope_forward", x, table, 1, 0);
  detail::check_shape("rope_forward", "positions", positions, dims<1>{x.extent(0)});
  detail::check_rows("rope_forward", "positions", positions);
  if constexpr (backend_traits<Backend>::is_host_memory) {
    for (index_t n = 0; n < positions.extent(0); ++n) {
      check(positions(n) >= 0 && positions(n) < table.extent(0),
            "rope_forward: position ",
            positions(n),
            " does not lie in the table of ",
            table.extent(0));
    }
  }
  MTP_DISPATCH(rope_forward, context, x, table, positions);
}

/// The gradient of rope_forward: the rotation by the opposite angle, in place on dx [N, H, E].
/// Throws as rope_forward does.
template <scalar S, class Backend>
void rope_backward(context<Backend>& context,
                   view<S, dims<3>, Backend> dx,
                   in_sums<S, Backend> table,
                   index_t length,
                   index_t first) {
  detail::check_rope("rope_backward", dx, table, length, first);
  MTP_DISPATCH(rope_backward, context, dx, table, length, first);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(rope_forward,
              as_dynamic_operand,
              "expected (context, x [N, H, E], table [P, E], length, first) or (context, x, table, "
              "positions [N]), dynamic views of one backend, table of the accumulator type of x")
MTP_OPERATION(rope_backward,
              as_dynamic_operand,
              "expected (context, dx [N, H, E], table [P, E], length, first), dynamic views of one "
              "backend, table of the accumulator type of dx")
/// @endcond

}  // namespace mtp::inline MTP_ABI
