// The largest number of a row and its index, found by many threads.
#pragma once

#include "mtp/backend/cuda/reduce_block.cuh"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// The largest number so far and its lowest index; index -1: none yet.
template <class A>
struct largest {
  A value;
  token_t at;

  /// Takes a number at an index after all earlier ones if it is larger; NaN never is.
  __device__ __forceinline__ void meet(A number, token_t place) {
    if (number > value || (at < 0 && number == value)) {
      value = number;
      at = place;
    }
  }
};

template <class A>
__device__ __forceinline__ largest<A> no_largest() {
  return {static_cast<A>(-__uint_as_float(0x7f800000u)), -1};
}

/// The one with the larger number; of equal numbers, the one with the lower index.
template <class A>
__device__ __forceinline__ largest<A> larger(const largest<A>& a, const largest<A>& b) {
  const bool first =
      b.at < 0 || (a.at >= 0 && (a.value > b.value || (a.value == b.value && a.at < b.at)));
  return first ? a : b;
}

/// The largest of all lanes, in every lane.
template <class A>
__device__ __forceinline__ largest<A> warp_largest(largest<A> own) {
#pragma unroll
  for (int distance = warp_size / 2; distance > 0; distance /= 2) {
    own = larger(own,
                 largest<A>{__shfl_xor_sync(all_lanes, own.value, distance),
                            __shfl_xor_sync(all_lanes, own.at, distance)});
  }
  return own;
}

/// The same for a block; see block_sum.
template <class A>
__device__ __forceinline__ largest<A> block_largest(largest<A> own,
                                                    largest<A>* shared) {  // [block_reduction_size]
  return detail::reduce_block(
      own, no_largest<A>(), shared, [](largest<A> of_lane) { return warp_largest(of_lane); });
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
