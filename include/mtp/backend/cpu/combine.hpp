// The combination of hidden state and embedding on the CPU. Contracts: ops/combine.hpp.
#pragma once

#include "mtp/backend/cpu/embedding.hpp"
#include "mtp/backend/cpu/linear.hpp"
#include "mtp/backend/cpu/rms_norm.hpp"
#include "mtp/ops/combine.hpp"
#include "mtp/ops/linear.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// The rows of combine in the workspace.
template <scalar S>
struct combine_scratch {
  matrix_view<S, cpu> embedded;      // [N, C]
  matrix_view<S, cpu> concatenated;  // [N, 2C]

  combine_scratch(cpu_context& context, index_t N, index_t C)
      : embedded(context.workspace().template take<S>(N * C), {N, C}),
        concatenated(context.workspace().template take<S>(N * 2 * C), {N, 2 * C}) {}
};

struct cpu_combine_ops {
  // `Embedding` reads rows of the table and adds to their gradients.
  template <scalar S, class Embedding = cpu_embedding_ops>
  static void combine_forward(cpu_context& context,
                              matrix_view<S, cpu> y,
                              vector_view<accumulate_t<S>, cpu> inv_hidden,
                              vector_view<accumulate_t<S>, cpu> inv_embedding,
                              matrix_view<const S, cpu> hidden,
                              weight_view<const S, cpu> table,
                              vector_view<const token_t, cpu> tokens,
                              vector_view<const S, cpu> hidden_scale,
                              vector_view<const S, cpu> embedding_scale,
                              weight_view<const S, cpu> projection,
                              concat_order order,
                              double epsilon) {
    const bool hidden_first = order == concat_order::hidden_first;
    const arena::scope scope(context.workspace());
    const combine_scratch<S> scratch(context, hidden.extent(0), hidden.extent(1));
    Embedding::embedding_forward(context, scratch.embedded, table, tokens);
    concatenate(context,
                scratch,
                inv_hidden,
                inv_embedding,
                hidden,
                hidden_scale,
                embedding_scale,
                hidden_first,
                epsilon);
    mtp::linear_forward(context, y, scratch.concatenated, projection);
  }

  template <scalar S, class Embedding = cpu_embedding_ops>
  static void combine_backward(cpu_context& context,
                               matrix_view<S, cpu> dhidden,
                               vector_view<accumulate_t<S>, cpu> d_hidden_scale,
                               vector_view<accumulate_t<S>, cpu> d_embedding_scale,
                               weight_view<accumulate_t<S>, cpu> dprojection,
                               weight_view<accumulate_t<S>, cpu> dtable,
                               matrix_view<const S, cpu> dy,
                               matrix_view<const S, cpu> hidden,
                               vector_view<const accumulate_t<S>, cpu> inv_hidden,
                               vector_view<const accumulate_t<S>, cpu> inv_embedding,
                               weight_view<const S, cpu> table,
                               vector_view<const token_t, cpu> tokens,
                               vector_view<const S, cpu> hidden_scale,
                               vector_view<const S, cpu> embedding_scale,
                               weight_view<const S, cpu> projection,
                               concat_order order) {
    const bool hidden_first = order == concat_order::hidden_first;
    const index_t N = hidden.extent(0), C = hidden.extent(1);
    const arena::scope scope(context.workspace());
    const combine_scratch<S> scratch(context, N, C);
    Embedding::embedding_forward(context, scratch.embedded, table, tokens);
    const matrix_view<const S, cpu> embedded = scratch.embedded;
    scale_rows(context, half(scratch.concatenated, hidden_first), hidden, inv_hidden, hidden_scale);
    scale_rows(context,
               half(scratch.concatenated, !hidden_first),
               embedded,
               inv_embedding,
               embedding_scale);
    cpu_linear_ops::linear_backward_weight(
        context, dprojection, dy, matrix_view<const S, cpu>(scratch.concatenated));
    // The gradient of the concatenation replaces it.
    cpu_linear_ops::linear_backward_input(context, scratch.concatenated, dy, projection);
    const auto as_heads = [](const auto& rows) { return mtp::detail::as_heads(rows); };
    const auto gradient_of = [&](matrix_view<S, cpu> dx,
                                 vector_view<accumulate_t<S>, cpu> dscale,
                                 matrix_view<const S, cpu> dnormed,
                                 matrix_view<const S, cpu> x,
                                 vector_view<const accumulate_t<S>, cpu> inverse,
                                 vector_view<const S, cpu> scale) {
      cpu_rms_norm_ops::rms_norm_backward(context,
                                          as_heads(dx),
                                          dscale,
                                          as_heads(dnormed),
                                          as_heads(x),
                                          mtp::detail::as_column(inverse),
                                          scale,
                                          view<const S, dims<3>, cpu>(nullptr, {0, 0, 0}));
    };
    gradient_of(dhidden,
                d_hidden_scale,
                half(scratch.concatenated, hidden_first),
                hidden,
                inv_hidden,
                hidden_scale);
    const auto d_embedding_half = half(scratch.concatenated, !hidden_first);
    gradient_of(d_embedding_half,
                d_embedding_scale,
                d_embedding_half,
                embedded,
                inv_embedding,
                embedding_scale);
    if (dtable.data != nullptr) {
      Embedding::embedding_backward(
          context, dtable, matrix_view<const S, cpu>(d_embedding_half), tokens);
    }
  }

  /// The most bytes of workspace that these operations need for `rows` rows of width C, projected
  /// to `outputs` elements.
  template <scalar S>
  static constexpr index_t combine_workspace(
      index_t rows, index_t C, index_t outputs, index_t, index_t threads) {
    return arena_bytes(rows * C, sizeof(S)) + arena_bytes(rows * 2 * C, sizeof(S)) +
           cpu_linear_ops::linear_workspace<S>(rows, outputs, 2 * C, threads) +
           cpu_rms_norm_ops::row_workspace<S>(rows, C, threads);
  }

 private:
  /// Columns [0, C) or [C, 2C).
  template <class S>
  static matrix_view<S, cpu> half(const matrix_view<S, cpu>& rows, bool first) {
    const index_t C = rows.extent(1) / 2;
    return rows.slice(1, first ? 0 : C, C);
  }

  template <scalar S>
  static void concatenate(cpu_context& context,
                          const combine_scratch<S>& scratch,
                          vector_view<accumulate_t<S>, cpu> inv_hidden,
                          vector_view<accumulate_t<S>, cpu> inv_embedding,
                          matrix_view<const S, cpu> hidden,
                          vector_view<const S, cpu> hidden_scale,
                          vector_view<const S, cpu> embedding_scale,
                          bool hidden_first,
                          double epsilon) {
    const auto norm = [&](matrix_view<S, cpu> to,
                          vector_view<accumulate_t<S>, cpu> inverse,
                          matrix_view<const S, cpu> x,
                          vector_view<const S, cpu> scale) {
      cpu_rms_norm_ops::rms_norm_forward(context,
                                         mtp::detail::as_heads(to),
                                         mtp::detail::as_column(inverse),
                                         mtp::detail::as_heads(x),
                                         scale,
                                         epsilon);
    };
    norm(half(scratch.concatenated, hidden_first), inv_hidden, hidden, hidden_scale);
    norm(half(scratch.concatenated, !hidden_first),
         inv_embedding,
         scratch.embedded,
         embedding_scale);
  }

  /// to[n, c] = x[n, c] inverse[n] scale[c]: the output of the norm, from the values that it
  /// stored.
  template <scalar S>
  static void scale_rows(cpu_context& context,
                         matrix_view<S, cpu> to,
                         matrix_view<const S, cpu> x,
                         vector_view<const accumulate_t<S>, cpu> inverse,
                         vector_view<const S, cpu> scale) {
    const index_t C = x.extent(1);
    context.parallel_ranges(x.extent(0), task_rows(C), [&](index_t begin, index_t end, int) {
      for (index_t n = begin; n < end; ++n) {
        for (index_t c = 0; c < C; ++c) {
          to(n, c) = narrow<S>(widen(x(n, c)) * inverse(n) * widen(scale(c)));
        }
      }
    });
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
