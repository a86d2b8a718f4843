// Kernels that use everything of device.cuh. Tests run them under the emulation, and nvcc_test.sh
// compiles them for devices.
#pragma once

#include "mtp/backend/cuda/reduce_block.cuh"

#include <cstdint>

namespace mtp::test {

/// sums[b] = the sum of block b's `count` elements of x, maxima[b] = their maximum.
template <class T>
__global__ void __launch_bounds__(1024) reduce_kernel(const T* __restrict__ x,  // [blocks, count]
                                                      int count,
                                                      T* __restrict__ sums,      // [blocks]
                                                      T* __restrict__ maxima) {  // [blocks]
  T* const shared = cuda_detail::dynamic_shared<T>();                            // [32]
  x += std::int64_t{blockIdx.x} * count;
  const int first = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
  T sum = 0, largest = first < count ? x[first] : x[0];
  for (int i = first; i < count; i += step) {
    sum += x[i];
    largest = cuda_detail::maximum(largest, x[i]);
  }
  sum = cuda_detail::block_sum(sum, shared);
  largest = cuda_detail::block_max(largest, shared);
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = sum;
    maxima[blockIdx.x] = largest;
  }
}

/// Sizes of the product below: each block computes a tile of D in steps of k.
struct product_tile {
  static constexpr int rows = 64, columns = 64, inner_size = 32, threads = 128;
  static constexpr int chunk = 8, chunks = inner_size / chunk;  // bf16 that are copied at once
  static constexpr int stage = (rows + columns) * inner_size;   // elements of shared memory
  static constexpr int shared_bytes = 2 * stage * 2;
};

/// Where chunk `chunk` of row `row` lies in a tile: eight rows that ldmatrix reads at once are in
/// different banks.
__device__ __forceinline__ int product_offset(int row, int chunk) {
  return (row * product_tile::chunks + (chunk ^ (row / 2 % product_tile::chunks))) *
         product_tile::chunk;
}

/// Starts copies of [64, 32] of x to `tile`, zeros where x ends.
__device__ __forceinline__ void copy_product_tile(std::uint16_t* tile,
                                                  const std::uint16_t* x,  // [rows, K]
                                                  int first_row,
                                                  int rows,
                                                  int first_k,
                                                  int K) {
  using tile_type = product_tile;
  for (int i = static_cast<int>(threadIdx.x); i < tile_type::rows * tile_type::chunks;
       i += tile_type::threads) {
    const int row = i / tile_type::chunks, chunk = i % tile_type::chunks;
    const int k = first_k + chunk * tile_type::chunk;
    const bool valid = first_row + row < rows && k < K;
    cuda_detail::copy_async_16(tile + product_offset(row, chunk),
                               x + (valid ? std::int64_t{first_row + row} * K + k : 0),
                               valid);
  }
}

/// D = A B^T for bf16 A [M, K] and B [N, K] with K % 8 = 0, and f32 D [M, N]. While one stage of
/// shared memory is multiplied, the other one is filled. Each of 2 x 2 warps computes [32, 32].
template <int Stages>
__global__ void __launch_bounds__(product_tile::threads)
    product_kernel(const std::uint16_t* __restrict__ a,  // [M, K]
                   const std::uint16_t* __restrict__ b,  // [N, K]
                   float* __restrict__ d,                // [M, N]
                   int M,
                   int N,
                   int K) {
  static_assert(Stages == 2, "product_kernel: two stages");
  using tile = product_tile;
  std::uint16_t* const shared = cuda_detail::dynamic_shared<std::uint16_t>();
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int first_row = static_cast<int>(blockIdx.y) * tile::rows;
  const int first_column = static_cast<int>(blockIdx.x) * tile::columns;
  const int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
  const int steps = (K + tile::inner_size - 1) / tile::inner_size;

  const auto fill = [&](int step) {
    std::uint16_t* const stage = shared + step % Stages * tile::stage;
    copy_product_tile(stage, a, first_row, M, step * tile::inner_size, K);
    copy_product_tile(
        stage + tile::rows * tile::inner_size, b, first_column, N, step * tile::inner_size, K);
  };

  float sums[2][4][4] = {};  // two tiles of 16 rows, four of 8 columns
  fill(0);
  cuda_detail::copy_async_commit();
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) {
      fill(step + 1);
    }
    cuda_detail::copy_async_commit();
    cuda_detail::copy_async_wait<1>();
    __syncthreads();
    const std::uint16_t* const a_tile = shared + step % Stages * tile::stage;
    const std::uint16_t* const b_tile = a_tile + tile::rows * tile::inner_size;
    for (int k = 0; k < tile::chunks; k += 2) {  // 16 elements of k at a time
      std::uint32_t a_words[2][4], b_words[4][2];
      for (int i = 0; i < 2; ++i) {
        const int row = warp_row + i * 16 + lane % 16;
        cuda_detail::load_matrix_x4(a_words[i], a_tile + product_offset(row, k + lane / 16));
      }
      for (int j = 0; j < 4; ++j) {
        const int column = warp_column + j * 8 + lane % 8;
        cuda_detail::load_matrix_x2(b_words[j], b_tile + product_offset(column, k + lane / 8 % 2));
      }
      for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 4; ++j) {
          cuda_detail::mma_m16n8k16(sums[i][j], a_words[i], b_words[j]);
        }
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 4; ++j) {
      for (int e = 0; e < 4; ++e) {
        const int row = first_row + warp_row + i * 16 + lane / 4 + e / 2 * 8;
        const int column = first_column + warp_column + j * 8 + lane % 4 * 2 + e % 2;
        if (row < M && column < N) {
          d[std::int64_t{row} * N + column] = sums[i][j][e];
        }
      }
    }
  }
}

/// Everything else, once, by one warp.
template <int Bytes>
__global__ void other_functions_kernel(const uint4* __restrict__ x,            // [32]
                                       uint4* __restrict__ y,                  // [32]
                                       float* __restrict__ z) {                // [32]
  unsigned char* const shared = cuda_detail::dynamic_shared<unsigned char>();  // [32 Bytes]
  const unsigned lane = threadIdx.x;
  cuda_detail::copy_async<Bytes>(
      shared + lane * Bytes, reinterpret_cast<const unsigned char*>(x) + lane * Bytes, lane < 31);
  cuda_detail::copy_async_commit();
  cuda_detail::copy_async_wait<0>();
  __syncwarp();
  std::uint32_t pair[2], four[4];
  cuda_detail::load_matrix_x2_transposed(pair, shared + lane % 8 * 16 % (32 * Bytes));
  cuda_detail::load_matrix_x4_transposed(four, shared + lane % 8 * 16 % (32 * Bytes));
  uint4 value = cuda_detail::load_streaming_16(x + lane, true);
  value.x =
      cuda_detail::pack_bf16(cuda_detail::unpack_low(pair[0]), cuda_detail::unpack_high(four[3]));
  cuda_detail::store_streaming_16(y + lane, value);
  z[lane] = cuda_detail::exp2_approximate(cuda_detail::warp_max(z[lane]));
}

}  // namespace mtp::test
