// Sums over rows for each column: they combine partial gradients of norms and biases.
#pragma once

#include <cstddef>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

struct column_sums_policy {
  static constexpr int most_threads = 512;
  static constexpr int lanes = 2;  // neighbouring packs of a block
  static constexpr int batch = 4;  // packs that a thread loads before it adds the first

  /// Threads of a block: one for each pack of R rows, in whole warps, up to the limit of a block.
  static int threads(index_t R) {
    int result = warp_size;
    while (result < most_threads && result < R * lanes) {
      result *= 2;
    }
    return result;
  }
};

/// sums[c] += sum over r of rows[r, c]. One block for two packs of columns. Group j of G adds rows
/// j, j + G, ... in order; then the groups of a warp are added in a tree and the warps in order.
/// The order of the sum depends only on R. Bound by reading R C elements: a block has 32 KiB in
/// flight, and 2048 columns of bf16 give 128 blocks.
template <class S, class Sum, bool Packed>
__global__ void __launch_bounds__(column_sums_policy::most_threads, 2)
    column_sums_kernel(Sum* __restrict__ sums,      // [C]
                       const S* __restrict__ rows,  // [R, C] stride (row_stride, 1)
                       index_t row_stride,
                       index_t R,
                       index_t C) {
  constexpr int W = pack<S>::width, lanes = column_sums_policy::lanes;
  constexpr int batch = column_sums_policy::batch;
  const int warps = static_cast<int>(blockDim.x) / warp_size;
  const int groups = static_cast<int>(blockDim.x) / lanes;
  Sum* const shared = dynamic_shared<Sum>();  // [warps, lanes W]
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int group = static_cast<int>(threadIdx.x) / lanes;
  const index_t first = static_cast<index_t>(blockIdx.x) * (lanes * W);
  const index_t c = first + lane * W;
  Sum sum[W] = {};
  for (index_t begin = group; begin < R && c < C; begin += batch * groups) {
    pack<S> values[batch] = {};
#pragma unroll
    for (int j = 0; j < batch; ++j) {
      if (begin + j * groups < R) {
        values[j] = load_elements<Packed>(rows + (begin + j * groups) * row_stride, c, C);
      }
    }
#pragma unroll
    for (int j = 0; j < batch; ++j) {
      arithmetic_t<S> terms[W];
      widen_pack(terms, values[j]);
#pragma unroll
      for (int i = 0; i < W; ++i) {
        sum[i] += static_cast<Sum>(terms[i]);
      }
    }
  }
  // Lanes that differ in these bits hold the same columns of other rows.
#pragma unroll
  for (int distance = lanes; distance < warp_size; distance *= 2) {
#pragma unroll
    for (int i = 0; i < W; ++i) {
      sum[i] += __shfl_xor_sync(all_lanes, sum[i], distance);
    }
  }
  if (static_cast<int>(threadIdx.x) % warp_size < lanes) {
    const int warp = static_cast<int>(threadIdx.x) / warp_size;
#pragma unroll
    for (int i = 0; i < W; ++i) {
      shared[(warp * lanes + lane) * W + i] = sum[i];
    }
  }
  __syncthreads();
  const int column = static_cast<int>(threadIdx.x);
  if (column < lanes * W && first + column < C) {
    Sum total = sums[first + column];
    for (int warp = 0; warp < warps; ++warp) {
      total += shared[warp * lanes * W + column];
    }
    sums[first + column] = total;
  }
}

template <class S, class Sum>
void add_column_sums(cuda_context& context,
                     const char* function,
                     Sum* sums,      // [C]
                     const S* rows,  // [R, C] stride (row_stride, 1)
                     index_t row_stride,
                     index_t R,
                     index_t C) {
  constexpr int columns = column_sums_policy::lanes * pack<S>::width;
  const int threads = column_sums_policy::threads(R);
  launch(context,
         function,
         dim3(extent_of(ceil_div(C, columns), function)),
         dim3(static_cast<unsigned>(threads)),
         sizeof(Sum) * static_cast<std::size_t>(columns * threads / warp_size),
         in_packs(rows, row_stride, C) ? column_sums_kernel<S, Sum, true>
                                       : column_sums_kernel<S, Sum, false>,
         sums,
         rows,
         row_stride,
         R,
         C);
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
