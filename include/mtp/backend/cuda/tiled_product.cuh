// Products of matrices with any strides and mixed element types, without a library.
#pragma once

#include <cmath>
#include <type_traits>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

struct tiled_product_policy {
  static constexpr int side = 16;              // of a block of threads
  static constexpr int kept = 4;               // rows and columns of c that a thread computes
  static constexpr int tile = side * kept;     // of c
  static constexpr int inner_size = 16;        // steps at a time
  static constexpr int row_size = tile + 1;    // so that a column of a tile uses all banks
  static constexpr int threads = side * side;  // of a block
};

/// A matrix in the form of kernels: element (i, j) is at i * row + j * column.
template <class Element>
struct strided_matrix {
  Element* data = nullptr;
  index_t row = 0;
  index_t column = 0;

  __device__ __forceinline__ Element& at(index_t i, index_t j) const {
    return data[i * row + j * column];
  }
};

/// All of one product.
struct whole_product {
  static constexpr unsigned count = 1;  // of parts, which are numbers of blockIdx.y

  template <class C, class A, class B>
  __device__ __forceinline__ void take(unsigned,
                                       strided_matrix<C>&,
                                       strided_matrix<const C>&,
                                       strided_matrix<const A>&,
                                       strided_matrix<const B>&,
                                       index_t&,
                                       index_t&) const {}
};

/// c = init + a b, or a b without init; init may be c. One block for 64 x 64 elements of c, 4 x 4
/// for a thread; a and b pass through shared memory, widened, 16 steps at a time. Each element is
/// one chain of std::fma over k, so the tiles do not change its bits. `parts` says which part of
/// the matrices a block has to do with. Bound by 2 M N K operations on ordinary cores.
template <class C, class A, class B, class Parts>
__global__ void __launch_bounds__(tiled_product_policy::threads)
    tiled_product_kernel(strided_matrix<C> c,           // [M, N]
                         strided_matrix<const C> init,  // [M, N]
                         strided_matrix<const A> a,     // [M, K]
                         strided_matrix<const B> b,     // [K, N]
                         index_t M,
                         index_t N,
                         index_t K,
                         Parts parts) {
  parts.take(blockIdx.y, c, init, a, b, M, K);
  using policy = tiled_product_policy;
  using Sum = accumulate_t<C>;
  constexpr int side = policy::side, kept = policy::kept, tile = policy::tile;
  Sum* const left = dynamic_shared<Sum>();  // [inner_size, row_size], by columns of a
  Sum* const right =
      left + policy::inner_size * policy::row_size;  // [inner_size, row_size], by rows of b
  const index_t tiles = ceil_div(N, tile);
  const index_t first_row = static_cast<index_t>(blockIdx.x) / tiles * tile;
  const index_t first_column = static_cast<index_t>(blockIdx.x) % tiles * tile;
  if (first_row >= M) {
    return;
  }
  const int thread = static_cast<int>(threadIdx.x);
  const int i = thread / side,
            j = thread % side;  // has rows i + 16 r, columns j + 16 s of the tile

  Sum sums[kept][kept];
#pragma unroll
  for (int r = 0; r < kept; ++r) {
#pragma unroll
    for (int s = 0; s < kept; ++s) {
      const index_t m = first_row + i + r * side, n = first_column + j + s * side;
      sums[r][s] =
          init.data != nullptr && m < M && n < N ? static_cast<Sum>(widen(init.at(m, n))) : Sum(0);
    }
  }
  // Neighbouring threads read along the dimension with contiguous elements.
  const bool along_k = a.column == 1, along_n = b.column == 1;
  for (index_t k = 0; k < K; k += policy::inner_size) {
    for (int e = thread; e < policy::inner_size * tile; e += policy::threads) {
      const int a_step = along_k ? e % policy::inner_size : e / tile;
      const int row = along_k ? e / policy::inner_size : e % tile;
      left[a_step * policy::row_size + row] =
          k + a_step < K && first_row + row < M
              ? static_cast<Sum>(widen(a.at(first_row + row, k + a_step)))
              : Sum(0);
      const int b_step = along_n ? e / tile : e % policy::inner_size;
      const int column = along_n ? e % tile : e / policy::inner_size;
      right[b_step * policy::row_size + column] =
          k + b_step < K && first_column + column < N
              ? static_cast<Sum>(widen(b.at(k + b_step, first_column + column)))
              : Sum(0);
    }
    __syncthreads();
    const int steps = K - k < policy::inner_size ? static_cast<int>(K - k) : policy::inner_size;
    for (int step = 0; step < steps; ++step) {  // not beyond K: -0 + 0 would be +0
      const Sum* const row = left + step * policy::row_size + i;
      const Sum* const column = right + step * policy::row_size + j;
#pragma unroll
      for (int r = 0; r < kept; ++r) {
#pragma unroll
        for (int s = 0; s < kept; ++s) {
          sums[r][s] = std::fma(row[r * side], column[s * side], sums[r][s]);
        }
      }
    }
    __syncthreads();  // before the next steps replace these
  }
#pragma unroll
  for (int r = 0; r < kept; ++r) {
#pragma unroll
    for (int s = 0; s < kept; ++s) {
      const index_t m = first_row + i + r * side, n = first_column + j + s * side;
      if (m < M && n < N) {
        c.at(m, n) = narrow<C>(sums[r][s]);
      }
    }
  }
}

/// M, N, K: of the product, or the largest of its parts.
template <class C, class A, class B, class Parts = whole_product>
void run_tiled_product(cuda_context& context,
                       const char* function,
                       strided_matrix<C> c,                                 // [M, N]
                       std::type_identity_t<strided_matrix<const C>> init,  // [M, N], or no data
                       strided_matrix<const A> a,                           // [M, K]
                       strided_matrix<const B> b,                           // [K, N]
                       index_t M,
                       index_t N,
                       index_t K,
                       const Parts& parts = {}) {
  using policy = tiled_product_policy;
  launch(
      context,
      function,
      dim3(extent_of(ceil_div(M, policy::tile) * ceil_div(N, policy::tile), function), parts.count),
      dim3(policy::threads),
      sizeof(accumulate_t<C>) * 2 * policy::inner_size * policy::row_size,
      tiled_product_kernel<C, A, B, Parts>,
      c,
      init,
      a,
      b,
      M,
      N,
      K,
      parts);
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
