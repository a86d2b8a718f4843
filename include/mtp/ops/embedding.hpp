// Embedding look-up and its gradient.
#pragma once

#include <span>

#include "mtp/ops/detail.hpp"

namespace mtp {

/// x[n, c] = table[tokens[n], c]                    x [N, C], table [V, C], tokens [N]
///
/// The table is a weight, so that it can be tied to the output matrix. Throws mtp::error on wrong
/// shapes and on a token outside [0, V), naming its position; x is then untouched.
template <class S, class Backend>
void embedding_forward(context<Backend>& context,
                       matrix_view<S, Backend> x,
                       in_weight<S, Backend> table,
                       std::span<const token_t> tokens) {
  detail::check_embedding("embedding_forward", "x", x, table, tokens);
  ops_of<Backend>::embedding_forward(context, x, table, tokens);
}

/// dtable[tokens[n], c] += dx[n, c], in the order of n          dx [N, C], dtable [V, C]
template <class S, class Backend>
void embedding_backward(context<Backend>& context,
                        weight_view<S, Backend> dtable,
                        in_matrix<S, Backend> dx,
                        std::span<const token_t> tokens) {
  detail::check_embedding("embedding_backward", "dx", dx, dtable, tokens);
  ops_of<Backend>::embedding_backward(context, dtable, dx, tokens);
}

}  // namespace mtp
