// Reductions over the threads of a block.
#pragma once

#include "mtp/backend/cuda/device.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Elements of shared memory that the reductions below need.
inline constexpr int block_reduction_size = 32;

namespace detail {

/// Each warp reduces its own values. Then every warp reduces the results, padded with `neutral`, so
/// all threads get the same bits without a second round through shared memory.
template <class T, class ReduceWarp>
__device__ __forceinline__ T reduce_block(T value,
                                          T neutral,
                                          T* shared,  // [block_reduction_size]
                                          const ReduceWarp& reduce_warp) {
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warps = static_cast<int>(blockDim.x) / warp_size;
  value = reduce_warp(value);
  if (lane == 0) {
    shared[warp] = value;
  }
  __syncthreads();
  value = neutral;
  if (lane < warps) {
    value = shared[lane];
  }
  value = reduce_warp(value);
  __syncthreads();  // before `shared` is written again
  return value;
}

}  // namespace detail

/// The sum over the threads of a block, whose size is one-dimensional and a multiple of 32. Every
/// thread calls it and gets the same bits. `shared` may be reused at once.
template <class T>
__device__ __forceinline__ T block_sum(T value, T* shared) {  // [block_reduction_size]
  return detail::reduce_block(value, T(0), shared, [](T of_lane) { return warp_sum(of_lane); });
}

/// The maximum() over the threads of a block, under the same conditions.
template <class T>
__device__ __forceinline__ T block_max(T value, T* shared) {  // [block_reduction_size]
  return detail::reduce_block(
      value, static_cast<T>(-__uint_as_float(0x7f800000u)), shared, [](T of_lane) {
        return warp_max(of_lane);
      });
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
