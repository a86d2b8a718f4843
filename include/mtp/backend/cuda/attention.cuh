// Attention on the GPU. Contracts: ops/attention.hpp.
#pragma once

#include <span>

#include <algorithm>

#include "mtp/backend/cuda/attention_launch.cuh"
#include "mtp/core/arena.hpp"
#include "mtp/core/cache_view.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

struct cuda_attention_ops {
  template <class S>
  using heads = view<S, dims<3>, cuda>;

  /// Elements of a cache of `capacity` positions: keys [G, capacity, E], then values likewise.
  template <scalar S>
  static constexpr index_t kv_storage(index_t capacity,
                                      index_t num_key_value_heads,
                                      index_t head_dim) {
    return 2 * num_key_value_heads * capacity * head_dim;
  }

  /// The most bytes of workspace that these operations need: `rows` rows in sequences or caches of
  /// at most `length` positions, with all query heads `query_size` wide and all key/value heads
  /// `key_value_size`. Two numbers for each row and head where there are gradients; a partial
  /// result for each split of a cache.
  template <scalar S>
  static constexpr index_t attention_workspace(
      index_t rows, index_t length, index_t query_size, index_t, index_t head_dim, index_t) {
    using A = accumulate_t<S>;
    const index_t H = query_size / head_dim;
    const index_t gradients = arena_bytes(2 * rows * H, sizeof(A));
    if constexpr (element_traits<S>::has_matrix_kernels) {
      using policy = attention_decode_policy;
      const index_t parts =
          policy::splits(length) * std::min(rows, index_t{policy::max_rows_of_all}) * H;
      return std::max(
          gradients,
          arena_bytes(parts * head_dim, sizeof(float)) + arena_bytes(parts, sizeof(float2)));
    } else {
      return gradients;
    }
  }

  template <class Widths = common_head_widths, scalar S>
  static void attention_forward(cuda_context& context,
                                heads<S> out,
                                matrix_view<accumulate_t<S>, cuda> statistics,
                                heads<const S> q,
                                heads<const S> k,
                                heads<const S> v,
                                index_t batch) {
    attention_launcher<Widths, S>(context, "attention_forward")
        .forward(out, statistics, q, nothing<S>(), k, v, batch);
  }

  template <class Widths = common_head_widths, scalar S>
  static void attention_forward(cuda_context& context,
                                heads<S> out,
                                matrix_view<accumulate_t<S>, cuda> statistics,
                                heads<const S> q,
                                heads<const S> k,
                                heads<const S> v,
                                index_t batch,
                                double scale) {
    attention_launcher<Widths, S>(context, "attention_forward", scale)
        .forward(out, statistics, q, nothing<S>(), k, v, batch);
  }

  template <class Widths = common_head_widths, scalar S>
  static void attention_backward(cuda_context& context,
                                 heads<S> dq,
                                 heads<S> dk,
                                 heads<S> dv,
                                 heads<const S> dout,
                                 heads<const S> q,
                                 heads<const S> k,
                                 heads<const S> v,
                                 heads<const S> out,
                                 matrix_view<const accumulate_t<S>, cuda> statistics,
                                 index_t batch) {
    attention_launcher<Widths, S>(context, "attention_backward")
        .backward(dq, dk, dv, dout, q, k, v, out, statistics, batch);
  }

  template <class Widths = common_head_widths, scalar S>
  static void attention_backward(cuda_context& context,
                                 heads<S> dq,
                                 heads<S> dk,
                                 heads<S> dv,
                                 heads<const S> dout,
                                 heads<const S> q,
                                 heads<const S> k,
                                 heads<const S> v,
                                 heads<const S> out,
                                 matrix_view<const accumulate_t<S>, cuda> statistics,
                                 index_t batch,
                                 double scale) {
    attention_launcher<Widths, S>(context, "attention_backward", scale)
        .backward(dq, dk, dv, dout, q, k, v, out, statistics, batch);
  }

  template <class Widths = common_head_widths, scalar S>
  static void attention_cached_forward(cuda_context& context,
                                       heads<S> out,
                                       cache_view<S, cuda> cache,
                                       heads<const S> q,
                                       heads<const S> k,
                                       heads<const S> v,
                                       vector_view<const index_t, cuda> positions,
                                       std::span<const row_run> runs) {
    attention_launcher<Widths, S>(context, "attention_cached_forward")
        .cached_forward(out, cache, q, nothing<S>(), k, v, positions.data(), runs);
  }

 private:
  template <class S>
  static heads<S> nothing() {
    return {nullptr, {0, 0, 0}};
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
