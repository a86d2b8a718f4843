// Embedding on the CPU. Contracts: ops/embedding.hpp.
#pragma once

#include <algorithm>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/weight_layout.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_embedding_ops {
  template <scalar S>
  static void embedding_forward(cpu_context& context,
                                matrix_view<S, cpu> x,
                                weight_view<const S, cpu> table,
                                vector_view<const token_t, cpu> tokens) {
    read_rows(context, x, table, tokens, 0);
  }

  /// The same with the rows of a table from `first` on; those of other tokens are zeros.
  template <scalar S>
  static void read_rows(cpu_context& context,
                        matrix_view<S, cpu> x,
                        weight_view<const S, cpu> table,
                        vector_view<const token_t, cpu> tokens,
                        index_t first) {
    const index_t C = x.extent(1);
    context.parallel_ranges(x.extent(0), task_rows(C), [&](index_t begin, index_t end, int) {
      for (index_t n = begin; n < end; ++n) {
        S* const to = x.data() + n * x.stride(0);
        const index_t row = tokens(n) - first;
        if (row < 0 || row >= table.outputs) {
          std::fill_n(to, C, S{0});
          continue;
        }
        const S* const from = &table(row, 0);
        for (index_t c = 0; c < C; ++c) {
          to[c] = from[c * panel_width<S>];
        }
      }
    });
  }

  template <scalar S>
  static void embedding_backward(cpu_context& context,
                                 weight_view<accumulate_t<S>, cpu> dtable,
                                 matrix_view<const S, cpu> dx,
                                 vector_view<const token_t, cpu> tokens) {
    add_rows(context, dtable, dx, tokens, 0);
  }

  /// The same for the rows of a table from `first` on; other tokens add nothing. Threads divide the
  /// columns, so each element is one sum over positions in order.
  template <scalar S>
  static void add_rows(cpu_context& context,
                       weight_view<accumulate_t<S>, cpu> dtable,
                       matrix_view<const S, cpu> dx,
                       vector_view<const token_t, cpu> tokens,
                       index_t first) {
    constexpr index_t columns = 32;
    context.parallel_ranges(dtable.inputs, columns, [&](index_t begin, index_t end, int) {
      for (index_t n = 0; n < tokens.extent(0); ++n) {
        const index_t row = tokens(n) - first;
        if (row < 0 || row >= dtable.outputs) continue;
        const S* from = dx.data() + n * dx.stride(0);
        accumulate_t<S>* to = &dtable(row, 0);
        for (index_t c = begin; c < end; ++c) {
          to[c * panel_width<S>] += static_cast<accumulate_t<S>>(from[c]);
        }
      }
    });
  }

  /// The most bytes of workspace that these operations need.
  template <scalar S>
  static constexpr index_t embedding_workspace(index_t, index_t, index_t, index_t) {
    return 0;
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
