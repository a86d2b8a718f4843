// Linear maps of heads on the GPU. Contracts: ops/head_linear.hpp.
//
// Each kernel reads the part of a head once for a few rows; the order of a row's sums does not
// depend on how many there are.
#pragma once

#include <cmath>

#include "mtp/backend/cuda/attention_tile.cuh"
#include "mtp/backend/cuda/invariant_rows.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

struct head_linear_policy {
  static constexpr int threads = 128;
  /// Rows that read a weight together.
  static constexpr int max_rows = 8;
};

/// y[m, h, n] for all rows by a warp: lane l adds the packs l, l + 32, .. of its row of W in order,
/// then the lanes are added.
template <class S, bool Packed>
__global__ void __launch_bounds__(head_linear_policy::threads)
    head_linear_forward_kernel(head_array<S> y,          // [M, H, N]
                               head_array<const S> x,    // [M, H, K]
                               const S* __restrict__ w,  // [H N, K]
                               int M,
                               index_t outputs,  // H N
                               index_t N,
                               index_t K) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width, rows = head_linear_policy::max_rows;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const index_t output = (static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x) / warp_size;
  if (output >= outputs) {
    return;
  }
  const index_t h = output / N, n = output % N;
  A sums[rows] = {};
  for (index_t k = index_t{lane} * W; k < K; k += index_t{warp_size} * W) {
    const pack<S> weights = load_elements<Packed>(w + output * K, k, K);
#pragma unroll
    for (int m = 0; m < rows; ++m) {
      if (m < M) {
        const pack<S> values = load_elements<Packed>(x.at(m, h), k, K);
#pragma unroll
        for (int e = 0; e < W; ++e) {
          sums[m] = std::fma(widen(weights.elements[e]), widen(values.elements[e]), sums[m]);
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < rows; ++m) {
    if (m < M) {
      const A sum = warp_sum(sums[m]);
      if (lane == 0) {
        y.at(m, h)[n] = narrow<S>(sum);
      }
    }
  }
}

/// A pack of dx[m, h, .] for all rows by a thread: each element is one chain over n.
template <class S, bool Packed>
__global__ void __launch_bounds__(head_linear_policy::threads)
    head_linear_backward_kernel(head_array<S> dx,         // [M, H, K]
                                head_array<const S> dy,   // [M, H, N]
                                const S* __restrict__ w,  // [H N, K]
                                int M,
                                index_t N,
                                index_t K) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width, rows = head_linear_policy::max_rows;
  const index_t h = blockIdx.y;
  const index_t k = (static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x) * W;
  if (k >= K) {
    return;
  }
  A sums[rows][W] = {};
  for (index_t n = 0; n < N; ++n) {
    const pack<S> weights = load_elements<Packed>(w + (h * N + n) * K, k, K);
#pragma unroll
    for (int m = 0; m < rows; ++m) {
      if (m < M) {
        const A factor = widen(dy.at(m, h)[n]);
#pragma unroll
        for (int e = 0; e < W; ++e) {
          sums[m][e] = std::fma(factor, widen(weights.elements[e]), sums[m][e]);
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < rows; ++m) {
    if (m < M) {
      pack<S> result;
#pragma unroll
      for (int e = 0; e < W; ++e) {
        result.elements[e] = narrow<S>(sums[m][e]);
      }
      store_elements<Packed>(dx.at(m, h), k, K, result);
    }
  }
}

struct cuda_head_linear_ops {
  template <class S>
  using heads = view<S, dims<3>, cuda>;

  template <scalar S>
  static void head_linear_forward(cuda_context& context,
                                  heads<S> y,
                                  heads<const S> x,
                                  weight_view<const S, cuda> w) {
    const char* const name = "head_linear_forward";
    const bool packed = is_packed(x) && in_packs(w.data, w.inputs, w.inputs);
    in_pieces(y.empty() ? 0 : y.extent(0), policy::max_rows, [&](index_t first, index_t count) {
      launch(context,
             name,
             dim3(extent_of(ceil_div(w.outputs * warp_size, policy::threads), name)),
             dim3(policy::threads),
             0,
             packed ? head_linear_forward_kernel<S, true> : head_linear_forward_kernel<S, false>,
             head_array<S>(y.slice(0, first, count)),
             head_array<const S>(x.slice(0, first, count)),
             w.data,
             static_cast<int>(count),
             w.outputs,
             y.extent(2),
             x.extent(2));
    });
  }

  template <scalar S>
  static void head_linear_backward_input(cuda_context& context,
                                         heads<S> dx,
                                         heads<const S> dy,
                                         weight_view<const S, cuda> w) {
    const char* const name = "head_linear_backward_input";
    const bool packed = is_packed(dx) && in_packs(w.data, w.inputs, w.inputs);
    const index_t packs = ceil_div(dx.extent(2), pack<S>::width);
    in_pieces(dx.empty() ? 0 : dx.extent(0), policy::max_rows, [&](index_t first, index_t count) {
      launch(context,
             name,
             dim3(extent_of(ceil_div(packs, policy::threads), name), extent_of(dx.extent(1), name)),
             dim3(policy::threads),
             0,
             packed ? head_linear_backward_kernel<S, true> : head_linear_backward_kernel<S, false>,
             head_array<S>(dx.slice(0, first, count)),
             head_array<const S>(dy.slice(0, first, count)),
             w.data,
             static_cast<int>(count),
             dy.extent(2),
             dx.extent(2));
    });
  }

  /// The most bytes of workspace that these operations need: none.
  template <scalar S>
  static constexpr index_t head_linear_workspace(index_t, index_t, index_t, index_t, index_t) {
    return 0;
  }

 private:
  using policy = head_linear_policy;

  template <class Element>
  static bool is_packed(const heads<Element>& x) {
    return in_packs(x.data(), x.stride(0), x.extent(2)) &&
           (x.extent(1) <= 1 || x.stride(1) % pack<std::remove_const_t<Element>>::width == 0);
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
