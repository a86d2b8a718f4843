// Attention over queries and keys that still have to be rotated to their positions: a backend may
// rotate on the way instead of in a pass of its own.
#pragma once

#include "mtp/ops/attention.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/rope.hpp"

namespace mtp::inline MTP_ABI {

/// rope_forward on q and k with row n at position n % T, then attention_forward: B sequences of T =
/// N / B positions.
///
/// q [N, H, E] and k [N, G, E] are rotated in place, so that rope_attention_backward finds them so;
/// v [N, G, E], out [N, H, E], statistics [N, 2H] as in attention_forward, table [P, E] as in
/// rope_forward, T <= P. q and k may lie in one tensor but must not overlap. Throws mtp::error on
/// wrong shapes.
template <scalar S, class Backend>
void rope_attention_forward(context<Backend>& context,
                            view<S, dims<3>, Backend> out,
                            out_sums<S, Backend> statistics,
                            out_heads<S, Backend> q,
                            out_heads<S, Backend> k,
                            in_heads<S, Backend> v,
                            in_sums<S, Backend> table,
                            index_t batch) {
  detail::check_attention("rope_attention_forward", in_heads<S, Backend>(q), k, v, batch);
  detail::check_rope("rope_attention_forward", q, table, q.extent(0) / batch, 0);
  detail::check_shape("rope_attention_forward", "out", out, q.shape());
  detail::check_shape(
      "rope_attention_forward", "statistics", statistics, {q.extent(0), 2 * q.extent(1)});
  detail::check_rows("rope_attention_forward", "out", out);
  detail::check_rows("rope_attention_forward", "statistics", statistics);
  MTP_DISPATCH(rope_attention_forward, context, out, statistics, q, k, v, table, batch);
}

/// Gradients of rope_attention_forward by q and k as they were before the rotation, and by v: dq
/// [N, H, E], dk, dv [N, G, E] are overwritten. q and k are given as the forward operation left
/// them. dq, dk, dv must not overlap q, k, v. Throws mtp::error on wrong shapes.
template <scalar S, class Backend>
void rope_attention_backward(context<Backend>& context,
                             view<S, dims<3>, Backend> dq,
                             out_heads<S, Backend> dk,
                             out_heads<S, Backend> dv,
                             in_heads<S, Backend> dout,
                             in_heads<S, Backend> q,
                             in_heads<S, Backend> k,
                             in_heads<S, Backend> v,
                             in_heads<S, Backend> out,
                             in_sums<S, Backend> statistics,
                             in_sums<S, Backend> table,
                             index_t batch) {
  detail::check_attention("rope_attention_backward", q, k, v, batch);
  detail::check_attention_backward(
      "rope_attention_backward", dq, dk, dv, dout, q, k, v, out, statistics, batch);
  detail::check_rope("rope_attention_backward", q, table, q.extent(0) / batch, 0);
  MTP_DISPATCH(
      rope_attention_backward, context, dq, dk, dv, dout, q, k, v, out, statistics, table, batch);
}

/// rope_forward on q and k [M, G, E] with row m at positions[m], then attention_cached_forward. The
/// cache receives rotated keys. q and k are used up: they may be rotated in place or not. Throws as
/// attention_cached_forward does, and where the table has fewer rows than the cache.
template <scalar S, class Backend>
void rope_attention_cached_forward(context<Backend>& context,
                                   view<S, dims<3>, Backend> out,
                                   cache_view<S, Backend> cache,
                                   out_heads<S, Backend> q,
                                   out_heads<S, Backend> k,
                                   in_heads<S, Backend> v,
                                   in_sums<S, Backend> table,
                                   in_positions<Backend> positions,
                                   std::type_identity_t<std::span<const row_run>> runs) {
  detail::check_attention("rope_attention_cached_forward", in_heads<S, Backend>(q), k, v, 1);
  detail::check_shape("rope_attention_cached_forward", "out", out, q.shape());
  detail::check_rows("rope_attention_cached_forward", "out", out);
  detail::check_cache("rope_attention_cached_forward", cache, k, positions, runs);
  check(cache.capacity <= table.extent(0),
        "rope_attention_cached_forward: a cache of ",
        cache.capacity,
        " positions needs a table of as many, got ",
        table.extent(0));
  detail::check_rope("rope_attention_cached_forward", q, table, 1, 0);
  MTP_DISPATCH(rope_attention_cached_forward, context, out, cache, q, k, v, table, positions, runs);
}

/// The same with all rows in one run, of slot 0.
template <scalar S, class Backend>
void rope_attention_cached_forward(context<Backend>& context,
                                   view<S, dims<3>, Backend> out,
                                   cache_view<S, Backend> cache,
                                   out_heads<S, Backend> q,
                                   out_heads<S, Backend> k,
                                   in_heads<S, Backend> v,
                                   in_sums<S, Backend> table,
                                   in_positions<Backend> positions) {
  const row_run all{0, q.extent(0)};
  rope_attention_cached_forward(context, out, cache, q, k, v, table, positions, {&all, 1});
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(
    rope_attention_forward,
    as_dynamic_operand,
    "expected (context, out [N, H, E], statistics [N, 2H], q, k, v, table [P, E], batch), of one "
    "backend and element type, statistics and table of its accumulator type")
MTP_OPERATION(
    rope_attention_backward,
    as_dynamic_operand,
    "expected (context, dq, dk, dv, dout, q, k, v, out, statistics [N, 2H], table [P, E], batch), "
    "of one backend and element type, statistics and table of its accumulator type")
MTP_OPERATION(rope_attention_cached_forward,
              as_dynamic_operand,
              "expected (context, out [M, H, E], cache, q, k, v, table [P, E], positions [M], "
              "runs), of one backend and element type, table of its accumulator type")
/// @endcond

}  // namespace mtp::inline MTP_ABI
