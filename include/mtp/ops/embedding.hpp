// Embedding look-up and its gradient.
#pragma once

#include "mtp/core/default_environment.hpp"
#include "mtp/ops/detail.hpp"

namespace mtp::inline MTP_ABI {

/// x[n, c] = table[tokens[n], c]                    x [N, C], table [V, C], tokens [N]
///
/// The table is a weight, so that it can be tied to the output matrix. Throws mtp::error on wrong
/// shapes and on a token outside [0, V), naming its position; x is then untouched. Where the tokens
/// lie on a device, a wrong one gives a row of zeros, and synchronize throws.
template <scalar S, class Backend>
void embedding_forward(context<Backend>& context,
                       matrix_view<S, Backend> x,
                       in_weight<S, Backend> table,
                       in_tokens<Backend> tokens) {
  detail::check_embedding("embedding_forward", "x", x, table, tokens);
  static_assert(
      requires { ops_of<Backend>::embedding_forward(context, x, table, tokens); },
      "embedding_forward: the backend has no such operation for these arguments");
  detail::in_default_environment(
      [&] { ops_of<Backend>::embedding_forward(context, x, table, tokens); });
}

/// dtable[tokens[n], c] += dx[n, c], in the order of n          dx [N, C], dtable [V, C]
///
/// dtable holds accumulate_t of dx's elements. Throws as embedding_forward does.
template <class G, class S, detail::matrix_shape Shape, class Backend>
void embedding_backward(context<Backend>& context,
                        weight_view<G, Backend> dtable,
                        view<S, Shape, Backend> rows,
                        in_tokens<Backend> tokens) {
  static_assert(detail::sums_of<G, S>,
                "embedding_backward: dtable must hold what sums over elements of dx are kept in");
  const detail::in_matrix_of<S, Backend> dx(rows);
  detail::check_embedding("embedding_backward", "dx", dx, dtable, tokens);
  static_assert(
      requires { ops_of<Backend>::embedding_backward(context, dtable, dx, tokens); },
      "embedding_backward: the backend has no such operation for these arguments");
  detail::in_default_environment(
      [&] { ops_of<Backend>::embedding_backward(context, dtable, dx, tokens); });
}

/// @cond
// Tensors for views.
MTP_TAKES_TENSORS(embedding_forward, as_dynamic_operand)
MTP_TAKES_TENSORS(embedding_backward, as_dynamic_operand)

// What calls are told that fit no operation above.
template <class Call = void>
void embedding_forward(detail::any, detail::any, detail::any, detail::any) {
  static_assert(detail::never<Call>,
                "embedding_forward: expected (context, x [N, C], table, tokens [N]), of one "
                "backend, x dynamic, writable and of the table's element type");
}
template <class Call = void>
void embedding_backward(detail::any, detail::any, detail::any, detail::any) {
  static_assert(
      detail::never<Call>,
      "embedding_backward: expected (context, dtable, dx [N, C], tokens [N]), of one backend");
}
/// @endcond

}  // namespace mtp::inline MTP_ABI
