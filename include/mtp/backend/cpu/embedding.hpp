// Embedding on the CPU. Contracts: ops/embedding.hpp.
#pragma once

#include <span>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/weight_layout.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::cpu_detail {

struct cpu_embedding_ops {
  template <real S>
  static void embedding_forward(cpu_context& context,
                                matrix_view<S, cpu> x,
                                weight_view<const S, cpu> table,
                                std::span<const token_t> tokens) {
    const index_t C = x.extent(1);
    context.parallel_ranges(x.extent(0), task_rows(C), [&](index_t begin, index_t end, int) {
      for (index_t n = begin; n < end; ++n) {
        const S* from = &table(tokens[static_cast<std::size_t>(n)], 0);
        S* to = x.data() + n * x.stride(0);
        for (index_t c = 0; c < C; ++c) {
          to[c] = from[c * panel_width<S>];
        }
      }
    });
  }

  // Columns are shared among threads, so each element is one sum over positions in order.
  template <real S>
  static void embedding_backward(cpu_context& context,
                                 weight_view<S, cpu> dtable,
                                 matrix_view<const S, cpu> dx,
                                 std::span<const token_t> tokens) {
    constexpr index_t columns = 32;
    context.parallel_ranges(dtable.inputs, columns, [&](index_t begin, index_t end, int) {
      for (std::size_t n = 0; n < tokens.size(); ++n) {
        const S* from = dx.data() + static_cast<index_t>(n) * dx.stride(0);
        S* to = &dtable(tokens[n], 0);
        for (index_t c = begin; c < end; ++c) {
          to[c * panel_width<S>] += from[c];
        }
      }
    });
  }
};

}  // namespace mtp::cpu_detail
