// The most likely token of each row of logits. Contract: ops/linear_cross_entropy.hpp.
#pragma once

#include <algorithm>

#include "mtp/backend/cuda/largest.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

struct predict_policy {
  static constexpr int threads = 128;  // of a block
  /// Elements of a block: a row of 131072 has work for 128 blocks.
  static constexpr index_t slice = 1024;

  static constexpr index_t slices(index_t V) {
    return std::max<index_t>(1, ceil_div(V, predict_policy::slice));
  }
};

/// The largest number of each slice of each row, or of the row if it has one slice. Reads M V
/// elements; for few rows, the latency of memory dominates.
template <class S, bool Packed>
__global__ void __launch_bounds__(predict_policy::threads)
    predict_kernel(token_t* __restrict__ predicted,                 // [M]
                   largest<accumulate_t<S>>* __restrict__ partial,  // [M, slices]
                   const S* __restrict__ logits,                    // [M, V] stride (row, 1)
                   index_t row,
                   index_t V,
                   index_t slices) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width, block = predict_policy::threads;
  constexpr int packs = static_cast<int>(predict_policy::slice / (block * W));
  const index_t m = blockIdx.x / slices, slice = blockIdx.x % slices;
  const index_t first = slice * predict_policy::slice + static_cast<index_t>(threadIdx.x) * W;
  const S* const from = logits + m * row;
  pack<S> values[packs];
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const index_t v = first + index_t{p} * block * W;
    if (v < V) {
      values[p] = load_elements<Packed>(from, v, V);
    }
  }
  largest<A> best = no_largest<A>();
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const index_t v = first + index_t{p} * block * W;
#pragma unroll
    for (int i = 0; i < W; ++i) {
      if (v + i < V) {
        best.meet(widen(values[p].elements[i]), static_cast<token_t>(v + i));
      }
    }
  }
  best = block_largest(best, dynamic_shared<largest<A>>());
  if (threadIdx.x == 0) {
    if (slices == 1) {
      predicted[m] = best.at;
    } else {
      partial[blockIdx.x] = best;
    }
  }
}

/// The largest of a row's slices, with one warp for each row.
template <class A>
__global__ void __launch_bounds__(warp_size)
    predict_slices_kernel(token_t* __restrict__ predicted,         // [M]
                          const largest<A>* __restrict__ partial,  // [M, slices]
                          index_t slices) {
  const index_t m = blockIdx.x;
  largest<A> best = no_largest<A>();
#pragma unroll 4
  for (index_t slice = threadIdx.x; slice < slices; slice += warp_size) {
    best = larger(best, partial[m * slices + slice]);
  }
  best = warp_largest(best);
  if (threadIdx.x == 0) {
    predicted[m] = best.at;
  }
}

struct cuda_predict_ops {
  template <scalar S>
  static void predict(cuda_context& context,
                      vector_view<token_t, cuda> predicted,
                      matrix_view<const S, cuda> logits) {
    using A = accumulate_t<S>;
    const char* const name = "predict";
    const index_t M = logits.extent(0), V = logits.extent(1);
    const index_t slices = predict_policy::slices(V);
    const arena::scope scope(context.workspace());
    auto* const partial =
        slices > 1 ? context.workspace().template take<largest<A>>(M * slices) : nullptr;
    launch(context,
           name,
           dim3(extent_of(M * slices, name)),
           dim3(predict_policy::threads),
           sizeof(largest<A>) * block_reduction_size,
           in_packs(logits.data(), logits.stride(0), V) ? predict_kernel<S, true>
                                                        : predict_kernel<S, false>,
           predicted.data(),
           partial,
           logits.data(),
           logits.stride(0),
           V,
           slices);
    if (slices > 1) {
      launch(context,
             name,
             dim3(extent_of(M, name)),
             dim3(warp_size),
             0,
             predict_slices_kernel<A>,
             predicted.data(),
             partial,
             slices);
    }
  }

  /// The most bytes of workspace that predict needs for logits [rows, V].
  template <scalar S>
  static constexpr index_t predict_workspace(index_t rows, index_t vocabulary, index_t) {
    return arena_bytes(rows * predict_policy::slices(vocabulary), sizeof(largest<accumulate_t<S>>));
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
