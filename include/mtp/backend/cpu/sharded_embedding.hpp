// Embeddings divided among ranks, on the CPU. Contracts: ops/sharded_embedding.hpp.
#pragma once

#include "mtp/backend/cpu/combine.hpp"
#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/sum_over_ranks.hpp"
#include "mtp/backend/cpu/weight_layout.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_sharded_embedding_ops {
  template <scalar S>
  static void sharded_embedding_forward(cpu_context& context,
                                        matrix_view<S, cpu> x,
                                        weight_view<const S, cpu> table,
                                        vector_view<const token_t, cpu> tokens) {
    cpu_embedding_ops::read_rows(
        context, x, table, tokens, context.ranks()->rank() * table.outputs);
    cpu_sum_over_ranks_ops::sum_over_ranks(context,
                                           vector_view<S, cpu>(x.data(), dims<1>{x.count()}));
  }

  template <scalar S>
  static void sharded_embedding_backward(cpu_context& context,
                                         weight_view<accumulate_t<S>, cpu> dtable,
                                         matrix_view<const S, cpu> dx,
                                         vector_view<const token_t, cpu> tokens) {
    const index_t first = context.ranks()->rank() * dtable.outputs;
    cpu_embedding_ops::add_rows(context, dtable, dx, tokens, first);
  }

  /// Rows of a table that ranks have in parts, where combine reads those of a whole one.
  struct rows {
    template <class... Arguments>
    static void embedding_forward(cpu_context& context, const Arguments&... arguments) {
      sharded_embedding_forward(context, arguments...);
    }
    template <class... Arguments>
    static void embedding_backward(cpu_context& context, const Arguments&... arguments) {
      sharded_embedding_backward(context, arguments...);
    }
  };

  template <scalar S, class... Rest>
  static void sharded_combine_forward(cpu_context& context,
                                      matrix_view<S, cpu> y,
                                      const Rest&... rest) {
    cpu_combine_ops::combine_forward<S, rows>(context, y, rest...);
  }

  template <scalar S, class... Rest>
  static void sharded_combine_backward(cpu_context& context,
                                       matrix_view<S, cpu> dhidden,
                                       const Rest&... rest) {
    cpu_combine_ops::combine_backward<S, rows>(context, dhidden, rest...);
  }

  /// The most bytes of workspace that embedding rows and their gradients need, for `rows` rows of
  /// width C and `ranks` ranks.
  template <scalar S>
  static constexpr index_t sharded_embedding_workspace(index_t rows, index_t C, index_t ranks) {
    return cpu_sum_over_ranks_ops::sum_over_ranks_workspace<S>(rows * C, ranks);
  }
  /// The most bytes that combining needs, with projections to `outputs` elements.
  template <scalar S>
  static constexpr index_t sharded_combine_workspace(index_t rows,
                                                     index_t C,
                                                     index_t outputs,
                                                     index_t vocabulary,
                                                     index_t threads,
                                                     index_t ranks) {
    return cpu_combine_ops::combine_workspace<S>(rows, C, outputs, vocabulary, threads) +
           sharded_embedding_workspace<S>(rows, C, ranks);
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
