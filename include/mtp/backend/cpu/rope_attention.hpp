// Rotation and attention on the CPU: one after the other. Contracts: ops/rope_attention.hpp.
#pragma once

#include <span>

#include "mtp/backend/cpu/attention.hpp"
#include "mtp/backend/cpu/rope.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_rope_attention_ops {
  template <class S>
  using heads = view<S, dims<3>, cpu>;

  template <scalar S>
  static void rope_attention_forward(cpu_context& context,
                                     heads<S> out,
                                     matrix_view<accumulate_t<S>, cpu> statistics,
                                     heads<S> q,
                                     heads<S> k,
                                     heads<const S> v,
                                     matrix_view<const accumulate_t<S>, cpu> table,
                                     index_t batch) {
    const index_t T = q.extent(0) / batch;
    cpu_rope_ops::rope_forward(context, q, table, T, index_t{0});
    cpu_rope_ops::rope_forward(context, k, table, T, index_t{0});
    cpu_attention_ops::attention_forward(
        context, out, statistics, heads<const S>(q), heads<const S>(k), v, batch);
  }

  template <scalar S>
  static void rope_attention_backward(cpu_context& context,
                                      heads<S> dq,
                                      heads<S> dk,
                                      heads<S> dv,
                                      heads<const S> dout,
                                      heads<const S> q,
                                      heads<const S> k,
                                      heads<const S> v,
                                      heads<const S> out,
                                      matrix_view<const accumulate_t<S>, cpu> statistics,
                                      matrix_view<const accumulate_t<S>, cpu> table,
                                      index_t batch) {
    const index_t T = q.extent(0) / batch;
    cpu_attention_ops::attention_backward(
        context, dq, dk, dv, dout, q, k, v, out, statistics, batch);
    cpu_rope_ops::rope_backward(context, dq, table, T, index_t{0});
    cpu_rope_ops::rope_backward(context, dk, table, T, index_t{0});
  }

  template <scalar S>
  static void rope_attention_cached_forward(cpu_context& context,
                                            heads<S> out,
                                            cache_view<S, cpu> cache,
                                            heads<S> q,
                                            heads<S> k,
                                            heads<const S> v,
                                            matrix_view<const accumulate_t<S>, cpu> table,
                                            vector_view<const index_t, cpu> positions,
                                            std::span<const row_run> runs) {
    index_t first = 0;
    for (const row_run& run : runs) {
      if (run.rows > 0) {
        // Positions of a tree are rotated to row by row.
        const index_t step = run.parents == nullptr ? run.rows : 1;
        for (index_t row = first; row < first + run.rows; row += step) {
          const auto rotate = [&](const heads<S>& x) {
            cpu_rope_ops::rope_forward(context, x.slice(0, row, step), table, step, positions(row));
          };
          rotate(q);
          rotate(k);
        }
      }
      first += run.rows;
    }
    cpu_attention_ops::attention_cached_forward(
        context, out, cache, heads<const S>(q), heads<const S>(k), v, positions, runs);
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
