// Sixteen bytes at a time: how kernels read and write rows.
#pragma once

#include <cstdint>
#include <type_traits>

#include "mtp/backend/cuda/device.cuh"
#include "mtp/core/host_device.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::cuda_detail {

/// Neighbouring elements that one instruction loads or stores; 16 bytes, aligned.
template <class S>
struct alignas(16) pack {
  static constexpr int width = static_cast<int>(16 / sizeof(S));
  S elements[width];
};

/// Rows of `columns` elements that can be read in packs from their first element on.
template <class S>
bool in_packs(const S* data, index_t row_stride, index_t columns) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && row_stride % pack<S>::width == 0 &&
         columns % pack<S>::width == 0;
}

/// An element as arithmetic sees it, and back: rounded to nearest, f64 to bf16 by way of f32.
template <class S>
MTP_HOST_DEVICE inline accumulate_t<S> widen(S value) {
  return static_cast<accumulate_t<S>>(value);
}
template <class S, class Value>
MTP_HOST_DEVICE inline S narrow(Value value) {
  if constexpr (sizeof(S) == 2) {
    return bf16(static_cast<float>(value));
  } else {
    return static_cast<S>(value);
  }
}

#if defined(__CUDACC__) || defined(MTP_CUDA_EMULATION)

// bf16 is converted in pairs, by the device's own instructions: a tenth of those that a rounding
// spelled out takes. NaN becomes 0x7fff.

/// The elements of a pack as arithmetic sees them.
template <class S>
__device__ __forceinline__ void widen_pack(accumulate_t<S> (&to)[pack<S>::width],
                                           const pack<S>& from) {
  if constexpr (std::is_same_v<S, bf16>) {
    const auto words = __builtin_bit_cast(pack<std::uint32_t>, from);
#pragma unroll
    for (int i = 0; i < pack<std::uint32_t>::width; ++i) {
      to[2 * i] = unpack_low(words.elements[i]);
      to[2 * i + 1] = unpack_high(words.elements[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < pack<S>::width; ++i) {
      to[i] = widen(from.elements[i]);
    }
  }
}

/// Numbers as a pack stores them.
template <class S>
__device__ __forceinline__ pack<S> narrow_pack(const accumulate_t<S> (&from)[pack<S>::width]) {
  if constexpr (std::is_same_v<S, bf16>) {
    pack<std::uint32_t> words;
#pragma unroll
    for (int i = 0; i < pack<std::uint32_t>::width; ++i) {
      words.elements[i] = pack_bf16(from[2 * i], from[2 * i + 1]);
    }
    return __builtin_bit_cast(pack<S>, words);
  } else {
    pack<S> values;
#pragma unroll
    for (int i = 0; i < pack<S>::width; ++i) {
      values.elements[i] = narrow<S>(from[i]);
    }
    return values;
  }
}

/// Elements at .. at + width - 1 of a row of `count`; zeros beyond its end. Packed rows are read in
/// one piece and others element by element, so that which elements a thread gets, and with it the
/// order of every sum, does not depend on how a row is aligned.
template <bool Packed, class S>
__device__ __forceinline__ pack<S> load_elements(const S* row, index_t at, index_t count) {
  if constexpr (Packed) {
    return *reinterpret_cast<const pack<S>*>(row + at);
  } else {
    pack<S> values;
#pragma unroll
    for (int i = 0; i < pack<S>::width; ++i) {
      values.elements[i] = at + i < count ? row[at + i] : S(0.0f);
    }
    return values;
  }
}

template <bool Packed, class S>
__device__ __forceinline__ void store_elements(S* row,
                                               index_t at,
                                               index_t count,
                                               const pack<S>& values) {
  if constexpr (Packed) {
    *reinterpret_cast<pack<S>*>(row + at) = values;
  } else {
#pragma unroll
    for (int i = 0; i < pack<S>::width; ++i) {
      if (at + i < count) {
        row[at + i] = values.elements[i];
      }
    }
  }
}

#endif

}  // namespace mtp::cuda_detail
