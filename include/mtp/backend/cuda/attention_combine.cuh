// What the splits of a cache have found for a row, added up. See attention_decode.cuh.
#pragma once

#include <cmath>

#include "mtp/backend/cuda/attention_decode.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Block (h, m) adds up what the splits up to the position of row m found for head h: warp w takes
/// splits w, w + 4, .., and the warps are added in order.
template <class S>
__global__ void __launch_bounds__(attention_decode_policy::threads)
    attention_combine_kernel(const attention_decode_arguments a) {
  allow_next_kernel();
  wait_for_previous_kernels();
  using policy = attention_decode_policy;
  constexpr int warps = policy::warps, widest = policy::widest, kept = widest / warp_size;
  float* const sums = dynamic_shared<float>();  // [warps, widest]
  float* const totals = sums + warps * widest;  // [warps]
  const int warp = static_cast<int>(threadIdx.x / warp_size);
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const index_t h = blockIdx.x, m = blockIdx.y;
  const index_t position = a.positions[m];
  const bool outside = position < 0 || position >= a.capacity;
  const int splits = outside ? 0 : static_cast<int>(position / policy::split) + 1;
  const index_t rows = static_cast<index_t>(a.M) * a.H, row = m * a.H + h;
  const float nothing = minus_infinity();
  float largest = nothing;
  for (int i = lane; i < splits; i += warp_size) {
    largest = fmaxf(largest, a.terms[i * rows + row].x);
  }
#pragma unroll
  for (int distance = warp_size / 2; distance > 0; distance /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(all_lanes, largest, distance));
  }
  const float shift = largest == nothing ? 0.0f : largest * a.exponent_scale;
  float sum[kept] = {}, total = 0;
#pragma unroll 4
  for (int i = warp; i < splits; i += warps) {
    const float2 term = a.terms[i * rows + row];
    const float weight = exp2_approximate(std::fma(term.x, a.exponent_scale, -shift));
    total = std::fma(weight, term.y, total);
#pragma unroll
    for (int j = 0; j < kept; ++j) {
      const int e = j * warp_size + lane;
      if (e < a.E) {
        sum[j] = std::fma(weight, a.sums[(i * rows + row) * a.E + e], sum[j]);
      }
    }
  }
#pragma unroll
  for (int j = 0; j < kept; ++j) {
    sums[warp * widest + j * warp_size + lane] = sum[j];
  }
  if (lane == 0) {
    totals[warp] = total;
  }
  __syncthreads();
  const int e = static_cast<int>(threadIdx.x);
  if (e < a.E) {
    float result = 0, all = 0;
    for (int w = 0; w < warps; ++w) {
      result += sums[w * widest + e];
      all += totals[w];
    }
    a.out.at(m, h)[e] = narrow<S>(outside ? 0.0f : result / all);
  }
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
