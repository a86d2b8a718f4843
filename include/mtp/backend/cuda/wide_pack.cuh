// The elements of a pack of S in their accumulator type.
#pragma once

#include "mtp/backend/cuda/pack.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// One pack, or two if S has half the size of its accumulator type.
template <class S>
struct wide_pack {
  using A = accumulate_t<S>;
  static constexpr int width = pack<S>::width, part = pack<A>::width;
  A elements[width];

#if defined(__CUDACC__) || defined(MTP_CUDA_EMULATION)
  /// Elements at .. at + width - 1 of a row of `count`, as load_elements does.
  template <bool Packed>
  __device__ __forceinline__ void load(const A* row, index_t at, index_t count) {
#pragma unroll
    for (int p = 0; p < width; p += part) {
      const pack<A> values = load_elements<Packed>(row, at + p, count);
#pragma unroll
      for (int i = 0; i < part; ++i) {
        elements[p + i] = values.elements[i];
      }
    }
  }
  template <bool Packed>
  __device__ __forceinline__ void store(A* row, index_t at, index_t count) const {
#pragma unroll
    for (int p = 0; p < width; p += part) {
      pack<A> values;
#pragma unroll
      for (int i = 0; i < part; ++i) {
        values.elements[i] = elements[p + i];
      }
      store_elements<Packed>(row, at + p, count, values);
    }
  }
#endif
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
