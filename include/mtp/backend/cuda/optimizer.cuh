// AdamW and the norm of all gradients on a GPU. Contracts: ops/optimizer.hpp.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/backend/cuda/reduce_block.cuh"
#include "mtp/backend/cuda/wide_pack.cuh"
#include "mtp/core/view.hpp"
#include "mtp/ops/optimizer.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

struct optimizer_policy {
  static constexpr int threads = 256;         // of a block
  static constexpr int total_threads = 1024;  // of the block that adds partial sums
  /// Elements of one partial sum; fixed, so that the order of additions is fixed.
  static constexpr index_t sum_chunk = 1 << 14;
};

/// partial[b] = sum of squares of chunk b of x. Pack p * Block + t belongs to thread t, which sums
/// first, second, .. elements of packs in order; then these sums, the lanes and the warps are
/// added. Bound by reading P elements: one conversion and one multiply-add in f64 for each.
template <class S, bool Packed>
__global__ void __launch_bounds__(optimizer_policy::threads)
    sum_of_squares_kernel(double* __restrict__ partial,  // [ceil(P / sum_chunk)]
                          const S* __restrict__ x,       // [P]
                          index_t P) {
  constexpr int W = pack<S>::width, block = optimizer_policy::threads;
  constexpr index_t chunk = optimizer_policy::sum_chunk;
  const index_t begin = static_cast<index_t>(blockIdx.x) * chunk;
  const index_t end = begin + chunk < P ? begin + chunk : P;
  double sums[W] = {};
  const auto add = [&](const pack<S>& values) {
    accumulate_t<S> elements[W];
    widen_pack(elements, values);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const auto value = static_cast<double>(elements[i]);
      sums[i] = std::fma(value, value, sums[i]);
    }
  };
  constexpr int batch = 4;  // packs that a thread has in flight
  index_t at = begin + static_cast<index_t>(threadIdx.x) * W;
  for (; at + (batch - 1) * block * W + W <= end; at += batch * block * W) {
    pack<S> values[batch];
#pragma unroll
    for (int k = 0; k < batch; ++k) {
      values[k] = load_elements<Packed>(x, at + k * block * W, end);
    }
#pragma unroll
    for (int k = 0; k < batch; ++k) {
      add(values[k]);
    }
  }
#pragma unroll 1
  for (; at < end; at += block * W) {
    add(at + W <= end ? load_elements<Packed>(x, at, end) : load_elements<false>(x, at, end));
  }
  double sum = 0;
#pragma unroll
  for (int i = 0; i < W; ++i) {
    sum += sums[i];
  }
  sum = block_sum(sum, dynamic_shared<double>());
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
  }
}

/// result[0] = the sum of all partial sums, by one block: a megabyte for 2^31 elements.
template <int Block>
__global__ void __launch_bounds__(Block)
    total_kernel(double* __restrict__ result,         // [1]
                 const double* __restrict__ partial,  // [count]
                 index_t count) {
  double sum = 0;
#pragma unroll 4
  for (index_t i = threadIdx.x; i < count; i += Block) {
    sum += partial[i];
  }
  sum = block_sum(sum, dynamic_shared<double>());
  if (threadIdx.x == 0) {
    result[0] = sum;
  }
}

/// adamw_coefficients in the form that the kernel uses.
template <class A>
struct adamw_factors {
  A beta1, rest1, beta2, rest2, scale, step, root, epsilon;
  A decayed;  // factor of a weight that decays
  A largest;  // finite number

  explicit adamw_factors(const adamw_coefficients& k)
      : beta1(static_cast<A>(k.beta1)),
        rest1(static_cast<A>(1 - k.beta1)),
        beta2(static_cast<A>(k.beta2)),
        rest2(static_cast<A>(1 - k.beta2)),
        scale(static_cast<A>(k.gradient_scale)),
        step(static_cast<A>(k.learning_rate / k.correction1)),
        root(static_cast<A>(1 / std::sqrt(k.correction2))),
        epsilon(static_cast<A>(k.epsilon)),
        decayed(static_cast<A>(1 - k.learning_rate * k.weight_decay)),
        largest((std::numeric_limits<A>::max)()) {}

  /// The new master weight; `keep` is decayed or 1.
  __device__ __forceinline__ A update(A keep, A master, A& first, A& second, A gradient) const {
    const A g = scale * gradient;
    first = std::fma(rest1, g, beta1 * first);
    second = std::fma(rest2, g * g, beta2 * second);
    const A denominator = std::fma(std::sqrt(second), root, epsilon);
    // A moment that overflowed moves nothing; its product with the step could be infinite.
    const A delta = denominator > largest ? A(0) : step * first / denominator;
    return std::fma(keep, master, -delta);
  }
};

/// The master of a value. It takes the value if that was changed.
template <class S>
__device__ __forceinline__ accumulate_t<S> master_of(S value, S rounded, accumulate_t<S> master) {
  return value.bits() == rounded.bits() ? master : widen(value);
}

/// Block b updates range b: whole packs, and the few elements before and after them one by one.
/// Bound by moving 32 bytes for each element of bf16 (f32: 28, f64: 56). A thread has all loads of
/// 8 elements in flight before it uses one: 128 bytes.
template <class S, bool Packed>
__global__ void __launch_bounds__(optimizer_policy::threads)
    adamw_update_kernel(S* value,                 // [P]
                        accumulate_t<S>* master,  // [P], value itself if arithmetic is done in S
                        accumulate_t<S>* first,   // [P]
                        accumulate_t<S>* second,  // [P]
                        const accumulate_t<S>* gradient,  // [P]
                        const adamw_range* ranges,        // [R]
                        adamw_factors<accumulate_t<S>> factors) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width, block = optimizer_policy::threads;
  constexpr bool has_copy = !std::is_same_v<S, A>;
  const adamw_range range = ranges[blockIdx.x];
  const index_t begin = range.begin, end = begin + range.count;
  const auto thread = static_cast<index_t>(threadIdx.x);
  const A keep = range.decays != 0 ? factors.decayed : A(1);
  const auto update_one = [&](index_t p) {
    A current = master[p];
    if constexpr (has_copy) {
      current = master_of<S>(value[p], narrow<S>(current), current);
    }
    const A updated = factors.update(keep, current, first[p], second[p], gradient[p]);
    master[p] = updated;
    if constexpr (has_copy) {
      value[p] = narrow<S>(updated);
    }
  };
  const index_t first_pack = round_up(begin, W), last_pack = end / W * W;
  if (!Packed || first_pack >= last_pack) {
#pragma unroll 1
    for (index_t p = begin + thread; p < end; p += block) {
      update_one(p);
    }
    return;
  }
  if (thread < first_pack - begin) {
    update_one(begin + thread);
  }
  if (thread < end - last_pack) {
    update_one(last_pack + thread);
  }
  for (index_t p = first_pack + thread * W; p < last_pack; p += block * W) {
    wide_pack<S> gradients, masters, firsts, seconds;
    gradients.template load<true>(gradient, p, end);
    masters.template load<true>(master, p, end);
    firsts.template load<true>(first, p, end);
    seconds.template load<true>(second, p, end);
    if constexpr (has_copy) {
      const pack<S> values = load_elements<true>(value, p, end);
      const pack<S> rounded = narrow_pack<S>(masters.elements);
#pragma unroll
      for (int i = 0; i < W; ++i) {
        masters.elements[i] =
            master_of<S>(values.elements[i], rounded.elements[i], masters.elements[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < W; ++i) {
      masters.elements[i] = factors.update(keep,
                                           masters.elements[i],
                                           firsts.elements[i],
                                           seconds.elements[i],
                                           gradients.elements[i]);
    }
    firsts.template store<true>(first, p, end);
    seconds.template store<true>(second, p, end);
    masters.template store<true>(master, p, end);
    if constexpr (has_copy) {
      store_elements<true>(value, p, end, narrow_pack<S>(masters.elements));
    }
  }
}

struct cuda_optimizer_ops {
  template <scalar S>
  static void sum_of_squares(cuda_context& context,
                             vector_view<double, cuda> result,
                             vector_view<const S, cuda> x) {
    const char* const name = "sum_of_squares";
    const index_t P = x.extent(0), chunks = ceil_div(P, optimizer_policy::sum_chunk);
    const arena::scope scope(context.workspace());
    double* const partial = context.workspace().template take<double>(chunks);  // [chunks]
    launch(context,
           name,
           dim3(extent_of(chunks, name)),
           dim3(optimizer_policy::threads),
           sizeof(double) * block_reduction_size,
           is_aligned(x.data()) ? sum_of_squares_kernel<S, true> : sum_of_squares_kernel<S, false>,
           partial,
           x.data(),
           P);
    launch(context,
           name,
           dim3(1),
           dim3(optimizer_policy::total_threads),
           sizeof(double) * block_reduction_size,
           total_kernel<optimizer_policy::total_threads>,
           result.data(),
           partial,
           chunks);
  }

  /// Bytes of workspace that sum_of_squares needs for `count` elements.
  static constexpr index_t sum_of_squares_workspace(index_t count) {
    return arena_bytes(ceil_div(count, optimizer_policy::sum_chunk), sizeof(double));
  }

  template <scalar S>
  static void adamw_update(cuda_context& context,
                           vector_view<S, cuda> value,
                           vector_view<accumulate_t<S>, cuda> master,
                           vector_view<accumulate_t<S>, cuda> first,
                           vector_view<accumulate_t<S>, cuda> second,
                           vector_view<const accumulate_t<S>, cuda> gradient,
                           vector_view<const adamw_range, cuda> ranges,
                           const adamw_coefficients& coefficients) {
    const bool packed = is_aligned(value.data()) && is_aligned(master.data()) &&
                        is_aligned(first.data()) && is_aligned(second.data()) &&
                        is_aligned(gradient.data());
    launch(context,
           "adamw_update",
           dim3(extent_of(ranges.extent(0), "adamw_update")),
           dim3(optimizer_policy::threads),
           0,
           packed ? adamw_update_kernel<S, true> : adamw_update_kernel<S, false>,
           value.data(),
           master.data(),
           first.data(),
           second.data(),
           gradient.data(),
           ranges.data(),
           adamw_factors<accumulate_t<S>>(coefficients));
  }

 private:
  static bool is_aligned(const void* data) {
    return reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
