// Embedding look-up and its gradient.
#pragma once

#include "mtp/ops/detail.hpp"

namespace mtp::inline MTP_ABI {

/// x[n, c] = table[tokens[n], c]                    x [N, C], table [V, C], tokens [N]
///
/// The table is a weight, so that it can be tied to the output matrix. Throws mtp::error on wrong
/// shapes and on a token outside [0, V), naming its position; x is then untouched. Where the tokens
/// lie on a device, a wrong one gives a row of zeros, and synchronize throws.
template <class S, class Backend>
void embedding_forward(context<Backend>& context,
                       matrix_view<S, Backend> x,
                       in_weight<S, Backend> table,
                       in_tokens<Backend> tokens) {
  detail::check_embedding("embedding_forward", "x", x, table, tokens);
  ops_of<Backend>::embedding_forward(context, x, table, tokens);
}

/// dtable[tokens[n], c] += dx[n, c], in the order of n          dx [N, C], dtable [V, C]
///
/// dtable holds accumulate_t of dx's elements. Throws as embedding_forward does.
template <class G, class S, class Shape, class Backend>
void embedding_backward(context<Backend>& context,
                        weight_view<G, Backend> dtable,
                        view<S, Shape, Backend> rows,
                        in_tokens<Backend> tokens) {
  static_assert(detail::sums_of<G, S>,
                "embedding_backward: dtable must hold what sums over elements of dx are kept in");
  const detail::in_matrix_of<S, Backend> dx(rows);
  detail::check_embedding("embedding_backward", "dx", dx, dtable, tokens);
  ops_of<Backend>::embedding_backward(context, dtable, dx, tokens);
}

}  // namespace mtp::inline MTP_ABI
