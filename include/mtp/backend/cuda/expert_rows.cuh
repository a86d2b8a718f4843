// Rows on their way to experts and back on a GPU. Contracts: ops/expert_rows.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/backend/cuda/reduce_block.cuh"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

struct expert_rows_policy {
  static constexpr int threads = 128;       // of a block
  static constexpr int sort_threads = 256;  // of a block that finds the pairs of an expert
};

/// The pairs of expert blockIdx.x. A thread looks at neighbouring pairs, twice: to count those of
/// this expert and of lower ones, and to place its own behind those of the threads before it. E
/// blocks read all N k experts from the second-level cache.
template <int Block>
__global__ void __launch_bounds__(Block)
    group_rows_kernel(index_t* __restrict__ offsets,  // [E + 1]
                      index_t* __restrict__ pairs,    // [N k]
                      index_t* __restrict__ rows,     // [N, k] stride (rows_row, 1)
                      index_t rows_row,
                      const index_t* __restrict__ experts,  // [N, k] stride (experts_row, 1)
                      index_t experts_row,
                      index_t R,
                      index_t k) {
  index_t* const own_counts = dynamic_shared<index_t>();  // [Block]
  index_t* const lower_counts = own_counts + Block;       // [Block]
  const index_t e = blockIdx.x, last = gridDim.x - 1;
  const int thread = static_cast<int>(threadIdx.x);
  const index_t piece = ceil_div(R, Block);
  const index_t begin = thread * piece, end = begin + piece < R ? begin + piece : R;
  const auto expert_of = [&](index_t i) {  // one that does not exist counts as the nearest
    const index_t expert = experts[i / k * experts_row + i % k];
    return expert < 0 ? 0 : expert > last ? last : expert;
  };
  index_t own = 0, lower = 0;
  for (index_t i = begin; i < end; ++i) {
    own += expert_of(i) == e ? 1 : 0;
    lower += expert_of(i) < e ? 1 : 0;
  }
  own_counts[thread] = own;
  lower_counts[thread] = lower;
  __syncthreads();
  index_t row = 0;  // where this thread's first pair goes
  for (int other = 0; other < Block; ++other) {
    row += lower_counts[other] + (other < thread ? own_counts[other] : 0);
  }
  if (thread == 0) {
    offsets[e] = row;
    if (e == last) {
      offsets[e + 1] = R;
    }
  }
  for (index_t i = begin; i < end; ++i) {
    if (expert_of(i) == e) {
      pairs[row] = i;
      rows[i / k * rows_row + i % k] = row++;
    }
  }
}

template <class S>
__global__ void __launch_bounds__(expert_rows_policy::threads)
    add_group_sizes_kernel(S* __restrict__ counts,               // [E]
                           const index_t* __restrict__ offsets,  // [E + 1]
                           index_t E) {
  const index_t e = static_cast<index_t>(blockIdx.x) * expert_rows_policy::threads + threadIdx.x;
  if (e < E) {
    counts[e] =
        narrow<S>(widen(counts[e]) + static_cast<accumulate_t<S>>(offsets[e + 1] - offsets[e]));
  }
}

/// A block copies a row. Bound by moving R C elements twice.
template <class S, bool Packed>
__global__ void __launch_bounds__(expert_rows_policy::threads)
    gather_rows_kernel(S* __restrict__ y,  // [R, C] stride (y_row, 1)
                       index_t y_row,
                       const S* __restrict__ x,  // [N, C] stride (x_row, 1)
                       index_t x_row,
                       const index_t* __restrict__ pairs,  // [R]
                       index_t k,
                       index_t C) {
  constexpr int W = pack<S>::width;
  const index_t r = blockIdx.x;
  const S* const from = x + pairs[r] / k * x_row;
  for (index_t c = static_cast<index_t>(threadIdx.x) * W; c < C;
       c += index_t{expert_rows_policy::threads} * W) {
    store_elements<Packed>(y + r * y_row, c, C, load_elements<Packed>(from, c, C));
  }
}

/// A block adds up a row. Bound by moving (k + 2) N C elements.
template <class S, bool Packed>
__global__ void __launch_bounds__(expert_rows_policy::threads)
    scatter_rows_kernel(S* y,  // [N, C] stride (y_row, 1)
                        index_t y_row,
                        const S* residual,  // [N, C] stride (residual_row, 1), may be y
                        index_t residual_row,
                        const S* __restrict__ x,  // [N k, C] stride (x_row, 1)
                        index_t x_row,
                        const index_t* __restrict__ rows,  // [N, k] stride (rows_row, 1)
                        index_t rows_row,
                        const accumulate_t<S>* __restrict__ weights,  // [N, k], or null
                        index_t weights_row,                          // stride (this, 1)
                        index_t k,
                        index_t C) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width;
  const index_t n = blockIdx.x;
  for (index_t c = static_cast<index_t>(threadIdx.x) * W; c < C;
       c += index_t{expert_rows_policy::threads} * W) {
    A sums[W];
    widen_pack(sums, load_elements<Packed>(residual + n * residual_row, c, C));
    for (index_t j = 0; j < k; ++j) {
      const A weight = weights != nullptr ? weights[n * weights_row + j] : A(1);
      A values[W];
      widen_pack(values, load_elements<Packed>(x + rows[n * rows_row + j] * x_row, c, C));
#pragma unroll
      for (int i = 0; i < W; ++i) {
        sums[i] = std::fma(weight, values[i], sums[i]);
      }
    }
    store_elements<Packed>(y + n * y_row, c, C, narrow_pack<S>(sums));
  }
}

/// A block for each pair. Bound by moving 3 N k C elements, of which dy's come from the caches.
template <class S, bool Packed>
__global__ void __launch_bounds__(expert_rows_policy::threads)
    scatter_rows_backward_kernel(S* __restrict__ dx,  // [N k, C] stride (dx_row, 1)
                                 index_t dx_row,
                                 accumulate_t<S>* __restrict__ dweights,  // [N, k]
                                 index_t dweights_row,                    // stride (this, 1)
                                 const S* __restrict__ dy,  // [N, C] stride (dy_row, 1)
                                 index_t dy_row,
                                 const S* __restrict__ x,  // [N k, C] stride (x_row, 1)
                                 index_t x_row,
                                 const index_t* __restrict__ rows,  // [N, k] stride (rows_row, 1)
                                 index_t rows_row,
                                 const accumulate_t<S>* __restrict__ weights,  // [N, k]
                                 index_t weights_row,                          // stride (this, 1)
                                 index_t k,
                                 index_t C) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width;
  const index_t n = blockIdx.x / k, j = blockIdx.x % k, row = rows[n * rows_row + j];
  const A weight = weights[n * weights_row + j];
  A sum = 0;
  for (index_t c = static_cast<index_t>(threadIdx.x) * W; c < C;
       c += index_t{expert_rows_policy::threads} * W) {
    A gradient[W], values[W];
    widen_pack(gradient, load_elements<Packed>(dy + n * dy_row, c, C));
    widen_pack(values, load_elements<Packed>(x + row * x_row, c, C));
#pragma unroll
    for (int i = 0; i < W; ++i) {
      sum = std::fma(gradient[i], values[i], sum);
      gradient[i] *= weight;
    }
    store_elements<Packed>(dx + row * dx_row, c, C, narrow_pack<S>(gradient));
  }
  sum = block_sum(sum, dynamic_shared<A>());
  if (threadIdx.x == 0) {
    dweights[n * dweights_row + j] = sum;
  }
}

struct cuda_expert_rows_ops {
  using policy = expert_rows_policy;

  static void group_rows(cuda_context& context,
                         vector_view<index_t, cuda> offsets,
                         vector_view<index_t, cuda> pairs,
                         matrix_view<index_t, cuda> rows,
                         matrix_view<const index_t, cuda> experts) {
    const index_t E = offsets.extent(0) - 1;
    launch(context,
           "group_rows",
           dim3(extent_of(E, "group_rows")),
           dim3(policy::sort_threads),
           sizeof(index_t) * 2 * policy::sort_threads,
           group_rows_kernel<policy::sort_threads>,
           offsets.data(),
           pairs.data(),
           rows.data(),
           rows.stride(0),
           experts.data(),
           experts.stride(0),
           pairs.extent(0),
           experts.extent(1));
  }

  template <scalar S>
  static void add_group_sizes(cuda_context& context,
                              vector_view<S, cuda> counts,
                              vector_view<const index_t, cuda> offsets) {
    const index_t E = counts.extent(0);
    launch(context,
           "add_group_sizes",
           dim3(extent_of(ceil_div(E, policy::threads), "add_group_sizes")),
           dim3(policy::threads),
           0,
           add_group_sizes_kernel<S>,
           counts.data(),
           offsets.data(),
           E);
  }

  template <scalar S>
  static void gather_rows(cuda_context& context,
                          matrix_view<S, cuda> y,
                          matrix_view<const S, cuda> x,
                          vector_view<const index_t, cuda> pairs) {
    const index_t R = y.extent(0), C = y.extent(1);
    launch(context,
           "gather_rows",
           dim3(extent_of(R, "gather_rows")),
           dim3(policy::threads),
           0,
           packed(C, y, x) ? gather_rows_kernel<S, true> : gather_rows_kernel<S, false>,
           y.data(),
           y.stride(0),
           x.data(),
           x.stride(0),
           pairs.data(),
           R > 0 ? R / x.extent(0) : 1,
           C);
  }

  template <scalar S>
  static void scatter_rows(cuda_context& context,
                           matrix_view<S, cuda> y,
                           matrix_view<const S, cuda> residual,
                           matrix_view<const S, cuda> x,
                           matrix_view<const index_t, cuda> rows,
                           matrix_view<const accumulate_t<S>, cuda> weights) {
    const index_t C = y.extent(1);
    launch(context,
           "scatter_rows",
           dim3(extent_of(y.extent(0), "scatter_rows")),
           dim3(policy::threads),
           0,
           packed(C, y, residual, x) ? scatter_rows_kernel<S, true> : scatter_rows_kernel<S, false>,
           y.data(),
           y.stride(0),
           residual.data(),
           residual.stride(0),
           x.data(),
           x.stride(0),
           rows.data(),
           rows.stride(0),
           weights.data(),
           weights.stride(0),
           rows.extent(1),
           C);
  }

  template <scalar S>
  static void scatter_rows_backward(cuda_context& context,
                                    matrix_view<S, cuda> dx,
                                    matrix_view<accumulate_t<S>, cuda> dweights,
                                    matrix_view<const S, cuda> dy,
                                    matrix_view<const S, cuda> x,
                                    matrix_view<const index_t, cuda> rows,
                                    matrix_view<const accumulate_t<S>, cuda> weights) {
    const index_t C = dy.extent(1);
    launch(context,
           "scatter_rows_backward",
           dim3(extent_of(rows.count(), "scatter_rows_backward")),
           dim3(policy::threads),
           sizeof(accumulate_t<S>) * block_reduction_size,
           packed(C, dx, dy, x) ? scatter_rows_backward_kernel<S, true>
                                : scatter_rows_backward_kernel<S, false>,
           dx.data(),
           dx.stride(0),
           dweights.data(),
           dweights.stride(0),
           dy.data(),
           dy.stride(0),
           x.data(),
           x.stride(0),
           rows.data(),
           rows.stride(0),
           weights.data(),
           weights.stride(0),
           rows.extent(1),
           C);
  }

 private:
  /// Whether all rows can be read and written in packs.
  template <class... Rows>
  static bool packed(index_t C, const Rows&... rows) {
    return (in_packs(rows.data(), rows.stride(0), C) && ...);
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
