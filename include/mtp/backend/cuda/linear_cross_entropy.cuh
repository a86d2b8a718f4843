// Output matrix, softmax and cross entropy in chunks of rows on a GPU. Contracts:
// ops/linear_cross_entropy.hpp.
#pragma once

#include <algorithm>

#include "mtp/backend/cuda/cross_entropy_rows.cuh"
#include "mtp/backend/cuda/linear.cuh"
#include "mtp/backend/cuda/predict.cuh"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// The logits of a chunk of rows are stored in the type of the weights, and their gradients replace
/// them: docs/decisions/0004-logits-are-stored.md.
struct cuda_linear_cross_entropy_ops : cuda_predict_ops {
  template <scalar S>
  static void linear_cross_entropy(cuda_context& context,
                                   matrix_view<accumulate_t<S>, cuda> losses,
                                   vector_view<token_t, cuda> predicted,
                                   matrix_view<S, cuda> dhidden,
                                   weight_view<accumulate_t<S>, cuda> dw,
                                   matrix_view<const S, cuda> hidden,
                                   weight_view<const S, cuda> w,
                                   matrix_view<const token_t, cuda> targets,
                                   matrix_view<const accumulate_t<S>, cuda> weights) {
    with_gradients<S>(context,
                      dhidden,
                      dw,
                      hidden,
                      w,
                      [&](matrix_view<S, cuda> logits, index_t first, index_t rows) {
                        score_rows<S>(context,
                                      "linear_cross_entropy",
                                      logits,
                                      losses.slice(0, first, rows),
                                      predicted.data() + first,
                                      targets.slice(0, first, rows),
                                      weights.slice(0, first, rows),
                                      true,
                                      first);
                      });
  }

  template <scalar S>
  static void linear_cross_entropy_forward(cuda_context& context,
                                           matrix_view<accumulate_t<S>, cuda> losses,
                                           vector_view<token_t, cuda> predicted,
                                           matrix_view<const S, cuda> hidden,
                                           weight_view<const S, cuda> w,
                                           matrix_view<const token_t, cuda> targets) {
    for_each_chunk<S>(
        context, hidden, w, [&](matrix_view<S, cuda> logits, index_t first, index_t rows) {
          score_rows<S>(context,
                        "linear_cross_entropy_forward",
                        logits,
                        losses.slice(0, first, rows),
                        predicted.data() + first,
                        targets.slice(0, first, rows),
                        {nullptr, {rows, targets.extent(1)}},
                        false,
                        first);
        });
  }

  /// Calls score(logits, first, rows), which replaces the logits of rows [first, first + rows) by
  /// their gradients, for all chunks, and propagates these.
  template <class S, class Score>
  static void with_gradients(cuda_context& context,
                             const matrix_view<S, cuda>& dhidden,
                             const weight_view<accumulate_t<S>, cuda>& dw,
                             const matrix_view<const S, cuda>& hidden,
                             const weight_view<const S, cuda>& w,
                             const Score& score) {
    for_each_chunk<S>(
        context, hidden, w, [&](matrix_view<S, cuda> logits, index_t first, index_t rows) {
          score(logits, first, rows);
          const matrix_view<const S, cuda> dlogits = logits;
          if (dw.data != nullptr) {  // first: dhidden may be hidden
            cuda_linear_ops::linear_backward_weight(
                context, dw, dlogits, hidden.slice(0, first, rows));
          }
          cuda_linear_ops::linear_backward_input(
              context, dhidden.slice(0, first, rows), dlogits, w);
        });
  }

  /// Calls score(logits, first, rows) with the logits of rows [first, first + rows), in the
  /// workspace, for all chunks.
  template <class S, class Score>
  static void for_each_chunk(cuda_context& context,
                             const matrix_view<const S, cuda>& hidden,
                             const weight_view<const S, cuda>& w,
                             const Score& score) {
    const index_t R = hidden.extent(0), V = w.outputs;
    const index_t chunk = std::min(R, chunk_rows<S>(V)), stride = row_stride<S>(V);
    const arena::scope scope(context.workspace());
    S* const memory = context.workspace().template take<S>(chunk * stride);  // [chunk, stride]
    for (index_t first = 0; first < R; first += chunk) {
      const index_t rows = std::min(chunk, R - first);
      const matrix_view<S, cuda> logits(memory, {rows, V}, {stride, 1});  // [rows, V]
      cuda_linear_ops::linear_forward(context, logits, hidden.slice(0, first, rows), w);
      score(logits, first, rows);
    }
  }

  /// The most bytes of workspace that these operations need for `rows` rows.
  template <scalar S>
  static constexpr index_t linear_cross_entropy_workspace(index_t rows,
                                                          index_t vocabulary,
                                                          index_t,
                                                          index_t) {
    const index_t chunk = std::min(rows, chunk_rows<S>(vocabulary));
    return arena_bytes(chunk * row_stride<S>(vocabulary), sizeof(S));
  }

  /// Rows of a chunk. Each chunk reads and writes the gradient of the output matrix once more, so a
  /// chunk has many rows, but at most a GiB of logits. Depends only on the size of the vocabulary.
  template <class S>
  static constexpr index_t chunk_rows(index_t vocabulary) {
    constexpr index_t most_bytes = index_t{1} << 30, fewest_rows = 256, most_rows = 8192;
    return std::clamp(
        most_bytes / (std::max<index_t>(vocabulary, 1) * static_cast<index_t>(sizeof(S))),
        fewest_rows,
        most_rows);
  }

 private:
  /// Elements between rows of logits. Each row begins with a whole pack.
  template <class S>
  static constexpr index_t row_stride(index_t vocabulary) {
    return round_up(vocabulary, pack<S>::width);
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
