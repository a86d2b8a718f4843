// Softmax on the GPU. Contracts: ops/softmax.hpp.
//
// A team of threads processes a row: part of a warp for narrow rows, a block for wide ones. Rows
// stay in registers, up to 32768 elements of bf16 in forward and 16384 in backward; the rest is
// read again for each use. So forward moves 2 N C elements and backward 3 N C: bound by memory.
#pragma once

#include <cmath>

#include "mtp/backend/cuda/exponential.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/strided.cuh"
#include "mtp/backend/cuda/team.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

struct softmax_policy {
  static constexpr int threads = 256;       // of a block of several teams
  static constexpr int forward_packs = 4;   // of a row, that a thread keeps
  static constexpr int backward_packs = 2;  // of each of two rows
};

/// y = exp(x - maximum) / sum. A NaN that the maximum skipped returns through the sum.
template <class S, bool Packed>
__global__ void __launch_bounds__(most_threads, 1) softmax_forward_kernel(row_numbers numbers,
                                                                          row_places<S> y,
                                                                          row_places<const S> x,
                                                                          int team_size) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width;
  A* const shared = dynamic_shared<A>();  // [2, team_reduction_size]
  const team own(team_size);
  const unsigned row = blockIdx.x * (blockDim.x / static_cast<unsigned>(team_size)) +
                       static_cast<unsigned>(own.number);
  const bool inside = row < numbers.rows;
  index_t offsets[2];
  find_row(offsets, inside ? row : 0, numbers, y, x);
  const int columns = inside ? static_cast<int>(numbers.columns) : 0;
  const strided_row<Packed, S> to{y.data + offsets[0], y.step, columns};
  const kept_row<softmax_policy::forward_packs, strided_row<Packed, const S>> from(
      {x.data + offsets[1], x.step, columns}, own);
  A largest = static_cast<A>(-__uint_as_float(0x7f800000u));
  from.each([&](int at, const pack<S>& elements) {
    A values[W];
    widen_pack(values, elements);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      largest = at + i < columns && values[i] > largest ? values[i] : largest;
    }
  });
  largest = own.largest(largest, shared);
  const auto exponentials = [&](A(&values)[W], const pack<S>& elements) {
    widen_pack(values, elements);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const A power = exponential<S>(values[i] - largest);
      values[i] = power < smallest_normal<A> ? A(0) : power;
    }
  };
  A sum = 0;
  from.each([&](int at, const pack<S>& elements) {
    A values[W];
    exponentials(values, elements);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      sum += at + i < columns ? values[i] : A(0);
    }
  });
  const A inverse = A(1) / own.sum(sum, shared + team_reduction_size);
  from.each([&](int at, const pack<S>& elements) {
    A values[W];
    exponentials(values, elements);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      values[i] *= inverse;
    }
    to.store(at, narrow_pack<S>(values));
  });
}

/// dx = y (dy - sum of dy y)
template <class S, bool Packed>
__global__ void __launch_bounds__(most_threads, 1) softmax_backward_kernel(row_numbers numbers,
                                                                           row_places<S> dx,
                                                                           row_places<const S> dy,
                                                                           row_places<const S> y,
                                                                           int team_size) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width, packs = softmax_policy::backward_packs;
  const team own(team_size);
  const unsigned row = blockIdx.x * (blockDim.x / static_cast<unsigned>(team_size)) +
                       static_cast<unsigned>(own.number);
  const bool inside = row < numbers.rows;
  index_t offsets[3];
  find_row(offsets, inside ? row : 0, numbers, dx, dy, y);
  const int columns = inside ? static_cast<int>(numbers.columns) : 0;
  const strided_row<Packed, S> to{dx.data + offsets[0], dx.step, columns};
  const kept_row<packs, strided_row<Packed, const S>> gradients(
      {dy.data + offsets[1], dy.step, columns}, own);
  const kept_row<packs, strided_row<Packed, const S>> results(
      {y.data + offsets[2], y.step, columns}, own);
  A sum = 0;
  gradients.each(
      [&](int, const pack<S>& gradient, const pack<S>& result) {
        A g[W], r[W];
        widen_pack(g, gradient);
        widen_pack(r, result);
#pragma unroll
        for (int i = 0; i < W; ++i) {
          sum = std::fma(g[i], r[i], sum);
        }
      },
      results);
  sum = own.sum(sum, dynamic_shared<A>());
  gradients.each(
      [&](int at, const pack<S>& gradient, const pack<S>& result) {
        A g[W], r[W];
        widen_pack(g, gradient);
        widen_pack(r, result);
#pragma unroll
        for (int i = 0; i < W; ++i) {
          g[i] = r[i] * (g[i] - sum);
        }
        to.store(at, narrow_pack<S>(g));
      },
      results);
}

struct cuda_softmax_ops {
  template <class Y, class X>
  static void softmax_forward(cuda_context& context, const Y& y, const X& x) {
    using S = typename Y::value_type;
    if (!y.empty()) {
      const joined_dimensions<2> joined(true, y, x);
      launch_teams(context,
                   "softmax_forward",
                   softmax_policy::forward_packs,
                   softmax_forward_kernel<S, true>,
                   softmax_forward_kernel<S, false>,
                   joined.numbers("softmax_forward"),
                   joined.places(0, y.data()),
                   joined.places(1, x.data()));
    }
  }

  template <class X, class G, class Y>
  static void softmax_backward(cuda_context& context, const X& dx, const G& dy, const Y& y) {
    using S = typename X::value_type;
    if (!dx.empty()) {
      const joined_dimensions<3> joined(true, dx, dy, y);
      launch_teams(context,
                   "softmax_backward",
                   softmax_policy::backward_packs,
                   softmax_backward_kernel<S, true>,
                   softmax_backward_kernel<S, false>,
                   joined.numbers("softmax_backward"),
                   joined.places(0, dx.data()),
                   joined.places(1, dy.data()),
                   joined.places(2, y.data()));
    }
  }

 private:
  template <class Kernel, class S, class... Rows>
  static void launch_teams(cuda_context& context,
                           const char* name,
                           int packs_each,
                           Kernel packed_kernel,
                           Kernel strided_kernel,
                           const row_numbers& numbers,
                           const row_places<S>& to,
                           const Rows&... from) {
    const int columns = row_length(numbers.columns, name);
    const bool packed = columns % pack<S>::width == 0 && rows_in_packs(numbers, to) &&
                        (rows_in_packs(numbers, from) && ...);
    const team_shape teams =
        team_for(ceil_div(columns, pack<S>::width), packs_each, softmax_policy::threads);
    launch(context,
           name,
           dim3(extent_of(ceil_div(numbers.rows, teams.teams), name)),
           dim3(static_cast<unsigned>(teams.threads())),
           sizeof(accumulate_t<S>) * 2 * team_reduction_size,
           packed ? packed_kernel : strided_kernel,
           numbers,
           to,
           from...,
           teams.size);
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
