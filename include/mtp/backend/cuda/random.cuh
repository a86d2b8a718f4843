// Random numbers on a GPU. Contract: ops/random.hpp.
//
// w[i] = deviation * normal(i): a thread for each element, which draws its own block of Philox and
// takes a logarithm and a cosine in f64. Arithmetic bounds it; it writes each element once.
#pragma once

#include <cstdint>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/core/random.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

inline constexpr int random_threads = 256;

template <class S>
__global__ void __launch_bounds__(random_threads) fill_normal_kernel(S* w,  // [count]
                                                                     index_t count,
                                                                     double deviation,
                                                                     random_stream random) {
  const index_t i = static_cast<index_t>(blockIdx.x) * random_threads + threadIdx.x;
  if (i < count) {
    const double value = deviation * random.normal(static_cast<std::uint64_t>(i));
    w[i] = narrow<S>(static_cast<accumulate_t<S>>(value));
  }
}

struct cuda_random_ops {
  // Weights are stored row by row, so an element's position is its index.
  template <scalar S>
  static void fill_normal(cuda_context& context,
                          weight_view<S, cuda> w,
                          double deviation,
                          const random_stream& random) {
    const index_t count = w.outputs * w.inputs;
    launch(context,
           "fill_normal",
           dim3(extent_of(ceil_div(count, index_t{random_threads}), "fill_normal")),
           dim3(random_threads),
           0,
           fill_normal_kernel<S>,
           w.data,
           count,
           deviation,
           random);
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
