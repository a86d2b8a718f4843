// Maximum and sum of exponentials of a row, from one pass over it.
#pragma once

#include <cmath>

#include "mtp/backend/cuda/exponential.cuh"
#include "mtp/backend/cuda/largest.cuh"
#include "mtp/backend/cuda/pack.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// The rounded product; a multiply-add with what follows would have other bits.
__device__ __forceinline__ float rounded_product(float a, float b) {
  return __fmul_rn(a, b);
}
__device__ __forceinline__ double rounded_product(double a, double b) {
  return __dmul_rn(a, b);
}

/// The state of a thread's part of a row: the largest number, and the sum of exponentials relative
/// to it, which is NaN as soon as one number is not finite. Online softmax: Milakov and Gimelshein
/// 2018, arXiv 1805.02867, algorithm 3, with a pack as a step.
template <class S>
struct softmax_part {
  using A = accumulate_t<S>;
  static constexpr int W = pack<S>::width;

  largest<A> best = no_largest<A>();
  A sum = 0;

  /// Adds the first `count` elements of the pack at index `at`.
  __device__ __forceinline__ void meet(const pack<S>& values, index_t at, int count) {
    A x[W];
    widen_pack(x, values);
    A peak = x[0];  // NaN is skipped unless there is nothing else
#pragma unroll
    for (int i = 1; i < W; ++i) {
      peak = i < count ? std::fmax(peak, x[i]) : peak;
    }
    if (peak > best.value) {
      sum = rounded_product(sum, exponential<S>(best.value - peak));
      best.value = peak;
#pragma unroll
      for (int i = W - 1; i >= 0; --i) {
        best.at = i < count && x[i] == peak ? static_cast<token_t>(at + i) : best.at;
      }
    }
    A terms[W];
#pragma unroll
    for (int i = 0; i < W; ++i) {
      // Adds zero to a finite term, and NaN to the term of an infinity or NaN.
      terms[i] = i < count ? std::fma(x[i], A(0), exponential<S>(x[i] - best.value)) : A(0);
    }
#pragma unroll
    for (int half = W / 2; half > 0; half /= 2) {
#pragma unroll
      for (int i = 0; i < half; ++i) {
        terms[i] += terms[i + half];
      }
    }
    sum += terms[0];
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
