// Embeddings divided among ranks, on GPUs. Contracts: ops/sharded_embedding.hpp.
#pragma once

#include <algorithm>

#include "mtp/backend/cuda/combine.cuh"
#include "mtp/backend/cuda/embedding.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/sum_over_ranks.cuh"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"
#include "mtp/ops/combine.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

inline constexpr int number_rows_threads = 256;

/// numbers[n] = n. A template, as kernels in headers must be: several files may have it.
template <int Block>
__global__ void __launch_bounds__(Block)
    number_rows_kernel(token_t* __restrict__ numbers, index_t N) {
  const index_t n = static_cast<index_t>(blockIdx.x) * Block + threadIdx.x;
  if (n < N) {
    numbers[n] = static_cast<token_t>(n);
  }
}

struct cuda_sharded_embedding_ops {
  template <scalar S>
  static void sharded_embedding_forward(cuda_context& context,
                                        matrix_view<S, cuda> x,
                                        weight_view<const S, cuda> table,
                                        vector_view<const token_t, cuda> tokens) {
    cuda_embedding_ops::read_rows(
        context, "sharded_embedding_forward", x, table, tokens, own_part(context, table.outputs));
    cuda_sum_over_ranks_ops::sum_over_ranks(context,
                                            vector_view<S, cuda>(x.data(), dims<1>{x.count()}));
  }

  template <scalar S>
  static void sharded_embedding_backward(cuda_context& context,
                                         weight_view<accumulate_t<S>, cuda> dtable,
                                         matrix_view<const S, cuda> dx,
                                         vector_view<const token_t, cuda> tokens) {
    cuda_embedding_ops::add_rows(context,
                                 "sharded_embedding_backward",
                                 dtable,
                                 dx,
                                 tokens,
                                 own_part(context, dtable.outputs));
  }

  /// The rows of all tokens become a table of their own, of which row n belongs to position n.
  template <scalar S>
  static void sharded_combine_forward(cuda_context& context,
                                      matrix_view<S, cuda> y,
                                      vector_view<accumulate_t<S>, cuda> inv_hidden,
                                      vector_view<accumulate_t<S>, cuda> inv_embedding,
                                      matrix_view<const S, cuda> hidden,
                                      weight_view<const S, cuda> table,
                                      vector_view<const token_t, cuda> tokens,
                                      vector_view<const S, cuda> hidden_scale,
                                      vector_view<const S, cuda> embedding_scale,
                                      weight_view<const S, cuda> projection,
                                      concat_order order,
                                      double epsilon) {
    const char* const name = "sharded_combine_forward";
    const index_t N = hidden.extent(0), C = hidden.extent(1);
    const arena::scope scope(context.workspace());
    S* const embedded = context.workspace().template take<S>(N * C);         // [N, C]
    token_t* const numbers = context.workspace().template take<token_t>(N);  // [N]
    sharded_embedding_forward(context, matrix_view<S, cuda>(embedded, {N, C}), table, tokens);
    launch(context,
           name,
           dim3(extent_of(ceil_div(N, number_rows_threads), name)),
           dim3(number_rows_threads),
           0,
           number_rows_kernel<number_rows_threads>,
           numbers,
           N);
    cuda_combine_ops::combine_forward<S>(context,
                                         y,
                                         inv_hidden,
                                         inv_embedding,
                                         hidden,
                                         {embedded, N, C},
                                         {numbers, dims<1>{N}},
                                         hidden_scale,
                                         embedding_scale,
                                         projection,
                                         order,
                                         epsilon);
  }

  template <scalar S, class... Rest>
  static void sharded_combine_backward(cuda_context& context,
                                       matrix_view<S, cuda> dhidden,
                                       const Rest&... rest) {
    cuda_combine_ops::combine_backward<S, rows>(context, dhidden, rest...);
  }

  /// The most bytes of workspace that embedding rows and their gradients need, for `rows` rows of
  /// width C and `ranks` ranks.
  template <scalar S>
  static constexpr index_t sharded_embedding_workspace(index_t rows, index_t C, index_t ranks) {
    return std::max(cuda_sum_over_ranks_ops::sum_over_ranks_workspace<S>(rows * C, ranks),
                    cuda_embedding_ops::embedding_workspace<S>(rows, 0, C, 1));
  }
  /// The most bytes that combining needs, with projections to `outputs` elements.
  template <scalar S>
  static constexpr index_t sharded_combine_workspace(index_t rows,
                                                     index_t C,
                                                     index_t outputs,
                                                     index_t vocabulary,
                                                     index_t threads,
                                                     index_t ranks) {
    return arena_bytes(rows * C, sizeof(S)) + arena_bytes(rows, sizeof(token_t)) +
           cuda_combine_ops::combine_workspace<S>(rows, C, outputs, vocabulary, threads) +
           sharded_embedding_workspace<S>(rows, C, ranks);
  }

 private:
  /// Rows of a table that ranks have in parts, where combine reads those of a whole one.
  struct rows {
    template <scalar S, class... Arguments>
    static void embedding_forward(cuda_context& context, const Arguments&... arguments) {
      sharded_embedding_forward<S>(context, arguments...);
    }
    template <scalar S, class... Arguments>
    static void embedding_backward(cuda_context& context, const Arguments&... arguments) {
      sharded_embedding_backward<S>(context, arguments...);
    }
  };

  static token_range own_part(const cuda_context& context, index_t rows) {
    const cuda_tensor_group& ranks = *context.ranks();
    return {ranks.rank() * rows, rows, ranks.size() * rows};
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
