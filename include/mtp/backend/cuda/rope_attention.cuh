// Attention over queries and keys that still have to be rotated. Contracts: ops/rope_attention.hpp.
//
// Queries are rotated by the block that loads them, and their gradients turned back by the block
// that stores them; so are gradients of keys. Only keys before a pass over whole sequences take a
// small pass of their own, because many blocks read them. A cache receives them rotated.
#pragma once

#include <span>

#include "mtp/backend/cuda/attention.cuh"
#include "mtp/backend/cuda/rope.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

struct cuda_rope_attention_ops {
  template <class S>
  using heads = view<S, dims<3>, cuda>;

  template <class Widths = common_head_widths, scalar S>
  static void rope_attention_forward(cuda_context& context,
                                     heads<S> out,
                                     matrix_view<accumulate_t<S>, cuda> statistics,
                                     heads<S> q,
                                     heads<S> k,
                                     heads<const S> v,
                                     matrix_view<const accumulate_t<S>, cuda> table,
                                     index_t batch) {
    using A = accumulate_t<S>;
    const char* const name = "rope_attention_forward";
    const rotation_table<A> angles(table);
    rotate_rows(context, name, k, angles, nullptr, k.extent(0) / batch, 0, A(1));
    attention_launcher<Widths, S>(context, name, angles)
        .forward(out, statistics, q, q, k, v, batch);
  }

  template <class Widths = common_head_widths, scalar S>
  static void rope_attention_backward(cuda_context& context,
                                      heads<S> dq,
                                      heads<S> dk,
                                      heads<S> dv,
                                      heads<const S> dout,
                                      heads<const S> q,
                                      heads<const S> k,
                                      heads<const S> v,
                                      heads<const S> out,
                                      matrix_view<const accumulate_t<S>, cuda> statistics,
                                      matrix_view<const accumulate_t<S>, cuda> table,
                                      index_t batch) {
    attention_launcher<Widths, S>(
        context, "rope_attention_backward", rotation_table<accumulate_t<S>>(table))
        .backward(dq, dk, dv, dout, q, k, v, out, statistics, batch);
  }

  template <class Widths = common_head_widths, scalar S>
  static void rope_attention_cached_forward(cuda_context& context,
                                            heads<S> out,
                                            cache_view<S, cuda> cache,
                                            heads<S> q,
                                            heads<S> k,
                                            heads<const S> v,
                                            matrix_view<const accumulate_t<S>, cuda> table,
                                            vector_view<const index_t, cuda> positions,
                                            std::span<const row_run> runs) {
    attention_launcher<Widths, S>(
        context, "rope_attention_cached_forward", rotation_table<accumulate_t<S>>(table))
        .cached_forward(out, cache, q, q, k, v, positions.data(), runs);
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
