// Exponentials, as accurate as an element type can represent.
#pragma once

#include <cmath>
#include <limits>

#include "mtp/backend/cuda/pack.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

template <class A>
inline constexpr A smallest_normal = std::numeric_limits<A>::min();

/// Whether the device's own f32 functions, with a relative error below 2^-16, are accurate enough
/// for S.
template <scalar S>
inline constexpr bool approximations_suffice = scalar_traits<S>::digits < 16;

/// e^x. For f32 and f64 the accurate function. For bf16 the device's own power of 2, in two
/// instructions: its relative error of 2^-22, and |x| 2^-23 from rounding x log2(e), stay below
/// 2^-16 for all finite results that are not zero, where bf16 itself rounds by 2^-9. Results too
/// small for a normal number are zero.
template <class S>
__device__ __forceinline__ accumulate_t<S> exponential(accumulate_t<S> x) {
  if constexpr (approximations_suffice<S>) {
    constexpr float log2_e = 1.44269504f;
    return exp2_approximate(x * log2_e);
  } else {
    return std::exp(x);
  }
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
