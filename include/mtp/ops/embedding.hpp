// Embedding look-up and its gradient.
#pragma once

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

template <class Rows, class Table, class Tokens>
void check_embedding(const char* function,
                     const char* name,
                     const Rows& rows,
                     const Table& table,
                     const Tokens& tokens) {
  check_rows(function, name, rows);
  check_rows(function, "tokens", tokens);
  check(rows.extent(0) == tokens.extent(0) && rows.extent(1) == table.inputs,
        function,
        ": expected ",
        name,
        " of shape [",
        tokens.extent(0),
        ", ",
        table.inputs,
        "], got ",
        rows.shape());
  if constexpr (backend_traits<typename Rows::backend_type>::is_host_memory) {
    for (index_t n = 0; n < tokens.extent(0); ++n) {
      check(tokens(n) >= 0 && tokens(n) < table.outputs,
            function,
            ": token ",
            tokens(n),
            " at position ",
            n,
            " does not lie in [0, ",
            table.outputs,
            ")");
    }
  }
}

}  // namespace detail

/// x[n, c] = table[tokens[n], c]                    x [N, C], table [V, C], tokens [N]
///
/// The table is a weight, so that it can be tied to the output matrix. Throws mtp::error on wrong
/// shapes and on a token outside [0, V), with its position; x is then unchanged. If the tokens are
/// on a device, a wrong one gives a row of zeros, and synchronize throws.
template <scalar S, class Backend>
void embedding_forward(context<Backend>& context,
                       matrix_view<S, Backend> x,
                       in_weight<S, Backend> table,
                       in_tokens<Backend> tokens) {
  detail::check_embedding("embedding_forward", "x", x, table, tokens);
  MTP_DISPATCH(embedding_forward, context, x, table, tokens);
}

/// dtable[tokens[n], c] += dx[n, c], in the order of n          dx [N, C], dtable [V, C]
///
/// dtable holds accumulate_t of dx's elements. Throws as embedding_forward does.
template <class G, class S, detail::matrix_shape Shape, class Backend>
detail::void_if<detail::sums_of<G, S>> embedding_backward(context<Backend>& context,
                                                          weight_view<G, Backend> dtable,
                                                          view<S, Shape, Backend> rows,
                                                          in_tokens<Backend> tokens) {
  static_assert(detail::sums_of<G, S>,
                "embedding_backward: dtable must hold elements of the accumulator type of dx");
  const detail::in_matrix_of<S, Backend> dx(rows);
  detail::check_embedding("embedding_backward", "dx", dx, dtable, tokens);
  MTP_DISPATCH(embedding_backward, context, dtable, dx, tokens);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(embedding_forward,
              as_dynamic_operand,
              "expected (context, x [N, C], table, tokens [N]), of one backend, x dynamic, "
              "writable and of the table's element type")
MTP_OPERATION(embedding_backward,
              as_dynamic_operand,
              "expected (context, dtable, dx [N, C], tokens [N]), of one backend")
/// @endcond

}  // namespace mtp::inline MTP_ABI
