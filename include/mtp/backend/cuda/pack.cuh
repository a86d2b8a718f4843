// Packs: kernels read and write rows 16 bytes at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mtp/backend/cuda/element.cuh"
#include "mtp/core/config.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/ops/view_checks.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Neighbouring elements that one instruction loads or stores: 16 bytes, or fewer if Width says so.
template <class S, int Width = static_cast<int>(16 / sizeof(S))>
struct alignas(static_cast<std::size_t>(Width) * sizeof(S)) pack {
  static constexpr int width = Width;
  S elements[width];
};

/// Whether rows of `columns` elements can be read in packs from their first element on.
template <class S>
bool in_packs(const S* data, index_t row_stride, index_t columns) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && row_stride % pack<S>::width == 0 &&
         columns % pack<S>::width == 0;
}

/// The type of arithmetic for an element: accumulate_t of numbers, other types unchanged.
template <class S>
using arithmetic_t = mtp::detail::arithmetic_t<S>;

/// Converts an element to the type of arithmetic, and back: rounded to nearest, via the accumulator
/// type, so f64 becomes bf16 via f32.
template <class S>
MTP_HOST_DEVICE inline arithmetic_t<S> widen(S value) {
  return static_cast<arithmetic_t<S>>(value);
}
template <class S, class Value>
MTP_HOST_DEVICE inline S narrow(Value value) {
  if constexpr (storage_scalar<S>) {
    return S(static_cast<accumulate_t<S>>(value));
  } else {
    return static_cast<S>(value);
  }
}

#if defined(__CUDACC__) || defined(MTP_CUDA_EMULATION)

// Elements of two bytes are converted in pairs by the device's own instructions: a tenth of the
// instructions of an explicit rounding.

/// The elements of a pack in the type of arithmetic.
template <class S, int Width>
__device__ __forceinline__ void widen_pack(arithmetic_t<S> (&to)[Width],
                                           const pack<S, Width>& from) {
  if constexpr (in_pairs<S> && Width % 2 == 0) {
    const auto words = __builtin_bit_cast(pack<std::uint32_t, Width / 2>, from);
#pragma unroll
    for (int i = 0; i < Width / 2; ++i) {
      to[2 * i] = element_traits<S>::unpack_low(words.elements[i]);
      to[2 * i + 1] = element_traits<S>::unpack_high(words.elements[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < Width; ++i) {
      to[i] = widen(from.elements[i]);
    }
  }
}

/// A pack of numbers in the storage type.
template <class S, class Value, int Width>
__device__ __forceinline__ pack<S, Width> narrow_pack(const Value (&from)[Width]) {
  if constexpr (in_pairs<S> && Width % 2 == 0) {
    pack<std::uint32_t, Width / 2> words;
#pragma unroll
    for (int i = 0; i < Width / 2; ++i) {
      words.elements[i] = element_traits<S>::pack_pair(static_cast<float>(from[2 * i]),
                                                       static_cast<float>(from[2 * i + 1]));
    }
    return __builtin_bit_cast(pack<S, Width>, words);
  } else if constexpr (in_pairs<S>) {
    pack<S, Width> values;
#pragma unroll
    for (int i = 0; i < Width; ++i) {
      values.elements[i] = __builtin_bit_cast(
          S,
          static_cast<std::uint16_t>(
              element_traits<S>::pack_pair(static_cast<float>(from[i]), 0.0f) & 0xffffu));
    }
    return values;
  } else {
    pack<S, Width> values;
#pragma unroll
    for (int i = 0; i < Width; ++i) {
      values.elements[i] = narrow<S>(from[i]);
    }
    return values;
  }
}

/// Elements at .. at + width - 1 of a row of `count` elements, `step` apart, with zeros beyond its
/// end. Packed rows (step 1) are read in one piece, others element by element. A thread gets the
/// same elements either way, so the order of sums does not depend on the alignment of a row.
template <bool Packed, class S, class At, class Count>
__device__ __forceinline__ pack<S> load_elements(const S* row,
                                                 At at,
                                                 Count count,
                                                 index_t step = 1) {
  if constexpr (Packed) {
    return *reinterpret_cast<const pack<S>*>(row + at);
  } else {
    const S* const first = row + at * step;
    if constexpr (in_pairs<S>) {
      pack<std::uint32_t> words;  // otherwise the compiler keeps each element in its own register
#pragma unroll
      for (int i = 0; i < pack<S>::width; i += 2) {
        const std::uint32_t low = at + i < count ? first[i * step].bits() : 0;
        const std::uint32_t high = at + i + 1 < count ? first[(i + 1) * step].bits() : 0;
        words.elements[i / 2] = low | high << 16;
      }
      return __builtin_bit_cast(pack<S>, words);
    } else {
      pack<S> values;
#pragma unroll
      for (int i = 0; i < pack<S>::width; ++i) {
        values.elements[i] = at + i < count ? first[i * step] : S(0);
      }
      return values;
    }
  }
}

template <bool Packed, class S, class At, class Count>
__device__ __forceinline__ void store_elements(
    S* row, At at, Count count, const pack<S>& values, index_t step = 1) {
  if constexpr (Packed) {
    *reinterpret_cast<pack<S>*>(row + at) = values;
  } else {
    S* const first = row + at * step;
#pragma unroll
    for (int i = 0; i < pack<S>::width; ++i) {
      if (at + i < count) {
        first[i * step] = values.elements[i];
      }
    }
  }
}

#endif

}  // namespace mtp::inline MTP_ABI::cuda_detail
