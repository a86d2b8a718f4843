// Causal grouped-query attention: over whole sequences with its gradient, and over a cache.
#pragma once

#include "mtp/core/default_environment.hpp"
#include "mtp/ops/detail.hpp"

namespace mtp::inline MTP_ABI {

/// out[t, h] = sum over s <= t of p[t, s] v[s, g],  p[t, .] = softmax over s <= t of (q[t, h] .
/// k[s, g]) / sqrt(E) with g = h / (H / G), for each of B sequences of T = N / B positions.
///
/// q [N, H, E], k, v [N, G, E], out [N, H, E], rows may be strided; statistics [N, 2H] receives per
/// row the maximum score of each head (columns 0..H-1) and the inverse of the sum of exponentials,
/// which backward reads, in accumulate_t of the elements. No T x T matrix is kept. Row-invariant;
/// on the CPU bit for bit what attention_cached_forward gives. Vaswani et al. 2017, eq. 1; Ainslie
/// et al. 2023 (arXiv 2305.13245). Throws mtp::error on wrong shapes.
template <scalar S, class Backend>
void attention_forward(context<Backend>& context,
                       view<S, dims<3>, Backend> out,
                       out_sums<S, Backend> statistics,
                       in_heads<S, Backend> q,
                       in_heads<S, Backend> k,
                       in_heads<S, Backend> v,
                       index_t batch) {
  detail::check_attention("attention_forward", q, k, v, batch);
  detail::check_shape("attention_forward", "out", out, q.shape());
  detail::check_shape(
      "attention_forward", "statistics", statistics, {q.extent(0), 2 * q.extent(1)});
  detail::check_rows("attention_forward", "out", out);
  detail::check_rows("attention_forward", "statistics", statistics);
  static_assert(
      requires { ops_of<Backend>::attention_forward(context, out, statistics, q, k, v, batch); },
      "attention_forward: the backend has no such operation for these arguments");
  detail::in_default_environment(
      [&] { ops_of<Backend>::attention_forward(context, out, statistics, q, k, v, batch); });
}

/// Gradients of attention_forward: dq [N, H, E], dk, dv [N, G, E] are overwritten. Probabilities
/// are computed again from the statistics. dq, dk, dv must not overlap q, k, v. Throws mtp::error
/// on wrong shapes.
template <scalar S, class Backend>
void attention_backward(context<Backend>& context,
                        view<S, dims<3>, Backend> dq,
                        out_heads<S, Backend> dk,
                        out_heads<S, Backend> dv,
                        in_heads<S, Backend> dout,
                        in_heads<S, Backend> q,
                        in_heads<S, Backend> k,
                        in_heads<S, Backend> v,
                        in_heads<S, Backend> out,
                        in_sums<S, Backend> statistics,
                        index_t batch) {
  detail::check_attention_backward(
      "attention_backward", dq, dk, dv, dout, q, k, v, out, statistics, batch);
  static_assert(
      requires {
        ops_of<Backend>::attention_backward(
            context, dq, dk, dv, dout, q, k, v, out, statistics, batch);
      },
      "attention_backward: the backend has no such operation for these arguments");
  detail::in_default_environment([&] {
    ops_of<Backend>::attention_backward(context, dq, dk, dv, dout, q, k, v, out, statistics, batch);
  });
}

/// Writes k, v [M, G, E] into the cache at positions positions[0] .. positions[0] + M - 1, then
/// attends: out[m, h] as in attention_forward with t = positions[m], over all cached positions s <=
/// t.
///
/// q, out [M, H, E]; positions [M] are consecutive. Positions before the first must have been
/// written. Row-invariant: M rows at once give bit for bit what M calls with one row give. Throws
/// mtp::error on wrong shapes and when the cache is full. Where the positions lie on a device, rows
/// outside the cache write nothing and give zeros.
template <scalar S, class Backend>
void attention_cached_forward(context<Backend>& context,
                              view<S, dims<3>, Backend> out,
                              cache_view<S, Backend> cache,
                              in_heads<S, Backend> q,
                              in_heads<S, Backend> k,
                              in_heads<S, Backend> v,
                              in_positions<Backend> positions) {
  detail::check_attention("attention_cached_forward", q, k, v, 1);
  detail::check_shape("attention_cached_forward", "out", out, q.shape());
  detail::check_rows("attention_cached_forward", "out", out);
  detail::check_cache("attention_cached_forward", cache, k, positions);
  static_assert(
      requires {
        ops_of<Backend>::attention_cached_forward(context, out, cache, q, k, v, positions);
      },
      "attention_cached_forward: the backend has no such operation for these arguments");
  detail::in_default_environment(
      [&] { ops_of<Backend>::attention_cached_forward(context, out, cache, q, k, v, positions); });
}

/// @cond
// Tensors for views.
MTP_TAKES_TENSORS(attention_forward, as_dynamic_operand)
MTP_TAKES_TENSORS(attention_backward, as_dynamic_operand)
MTP_TAKES_TENSORS(attention_cached_forward, as_dynamic_operand)

// What calls are told that fit no operation above.
template <class Call = void>
void attention_forward(detail::any, detail::any, ...) {
  static_assert(detail::never<Call>,
                "attention_forward: views and weights must be of the context's backend, and of one "
                "element type or the one its sums are kept in");
}
template <class Call = void>
void attention_backward(detail::any, detail::any, ...) {
  static_assert(detail::never<Call>,
                "attention_backward: views and weights must be of the context's backend, and of "
                "one element type or the one its sums are kept in");
}
template <class Call = void>
void attention_cached_forward(detail::any, detail::any, ...) {
  static_assert(detail::never<Call>,
                "attention_cached_forward: views and weights must be of the context's backend, and "
                "of one element type or the one its sums are kept in");
}
/// @endcond

}  // namespace mtp::inline MTP_ABI
