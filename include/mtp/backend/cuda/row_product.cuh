// y = init + x W^T for few rows of x, where a row's bits do not depend on the other rows: the
// products of decoding and verifying.
#pragma once

#include <cmath>
#include <type_traits>

#include "mtp/backend/cuda/invariant_rows.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/backend/cuda/row_pieces.cuh"
#include "mtp/backend/cuda/row_product_mma.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

inline constexpr int row_product_threads = 256;

/// For f32 and f64. A warp computes an output: lane l adds the packs l, l + 32, .. of its row of W
/// in order, then the lanes are added. Reads W once and x from the caches; 2 M N K operations on
/// ordinary cores, so memory bounds it for few rows.
template <class S, bool Packed, class Pieces>
__global__ void __launch_bounds__(row_product_threads)
    row_product_kernel(row_product_output<S> output,
                       const S* __restrict__ x,  // [M, K] stride (x_row, 1)
                       index_t x_row,
                       const S* __restrict__ w,  // [N, K], or that of each piece
                       Pieces pieces,
                       index_t N,
                       index_t K) {
  const row_piece piece = pieces.find(blockIdx.y);
  const int M = piece.rows;
  x += piece.first * x_row;
  w += piece.weight_row * K;
  constexpr int W = pack<S>::width, max_rows = row_product_policy::max_rows;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const index_t n = (static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x) / warp_size;
  if (n >= N || M == 0) {
    return;
  }
  S sums[max_rows] = {};
  for (index_t k = index_t{lane} * W; k < K; k += index_t{warp_size} * W) {
    const pack<S> weights = load_elements<Packed>(w + n * K, k, K);
#pragma unroll
    for (int m = 0; m < max_rows; ++m) {
      if (m < M) {
        const pack<S> values = load_elements<Packed>(x + m * x_row, k, K);
#pragma unroll
        for (int e = 0; e < W; ++e) {
          sums[m] = std::fma(weights.elements[e], values.elements[e], sums[m]);
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < max_rows; ++m) {
    if (m < M) {
      const S sum = warp_sum(sums[m]);
      if (lane == 0) {
        output.write(piece.first + m, n, sum);
      }
    }
  }
}

/// run_row_product for pieces of at most M rows, M <= max_rows.
template <scalar S, class Pieces>
void run_row_product_pieces(cuda_context& context,
                            const char* function,
                            const row_product_output<S>& output,
                            const S* x,  // [.., K] stride (x_row, 1)
                            index_t x_row,
                            const Pieces& pieces,
                            index_t M,
                            const S* w,  // [N, K], or that of each piece
                            index_t N,
                            index_t K) {
  if constexpr (element_traits<S>::has_matrix_kernels) {
    run_row_product_mma(
        context, function, output, plain_rows{x, x_row, in_packs(x, x_row, K)}, pieces, M, w, N, K);
  } else {
    const auto kernel = in_packs(w, K, K) && in_packs(x, x_row, K)
                            ? row_product_kernel<S, true, Pieces>
                            : row_product_kernel<S, false, Pieces>;
    for_pieces(pieces, [&](const Pieces& some) {
      launch(context,
             function,
             dim3(extent_of(ceil_div(N * warp_size, row_product_threads), function), some.count),
             dim3(row_product_threads),
             0,
             kernel,
             output,
             x,
             x_row,
             w,
             some,
             N,
             K);
    });
  }
}

/// y[m, n] = init[m, n] + sum over k of W[n, k] x[m, k] for few rows, in pieces of 16 rows that
/// each read W once. Y is S or accumulate_t<S>. `init` may be null or y; init_row = 0 uses one row
/// for all. A row's bits depend only on x[m], init[m] and W.
template <scalar S, scalar Y>
void run_row_product(cuda_context& context,
                     const char* function,
                     Y* y,  // [M, N] stride (y_row, 1)
                     index_t y_row,
                     const S* init,  // [M, N] stride (init_row, 1)
                     index_t init_row,
                     const S* x,  // [M, K] stride (x_row, 1)
                     index_t x_row,
                     index_t M,
                     const S* w,  // [N, K]
                     index_t N,
                     index_t K) {
  in_pieces(M, row_product_policy::max_rows, [&](index_t first, index_t count) {
    const S* const own_init = init != nullptr ? init + first * init_row : nullptr;
    row_product_output<S> output{nullptr, nullptr, y_row, own_init, init_row};
    if constexpr (std::is_same_v<Y, S>) {
      output.y = y + first * y_row;
    } else {
      output.wide_y = y + first * y_row;
    }
    run_row_product_pieces(context,
                           function,
                           output,
                           x + first * x_row,
                           x_row,
                           one_piece{static_cast<int>(count)},
                           count,
                           w,
                           N,
                           K);
  });
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
