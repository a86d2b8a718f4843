// Rotary position embedding on the GPU. Contracts: ops/rope.hpp.
#pragma once

#include <algorithm>
#include <cmath>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Rotates the elements e and e + E/2 of a head by the angle of cosine and sine. Every kernel that
/// rotates calls this, so all give the same bits.
template <class A>
__device__ __forceinline__ void rotate_pair(A& low, A& high, A cosine, A sine) {
  const A turned = std::fma(low, cosine, -(high * sine));
  high = std::fma(high, cosine, low * sine);
  low = turned;
}

/// Cosines of positions in the first half of the columns, sines in the second.
template <class A>
struct rotation_table {
  const A* data = nullptr;  // [P, E] stride (row, 1); null: nothing is rotated
  index_t row = 0;
  index_t positions = 0;  // P

  rotation_table() = default;
  explicit rotation_table(const matrix_view<const A, cuda>& table)
      : data(table.data()), row(table.stride(0)), positions(table.extent(0)) {}

  /// Cosines and sines of a position, from `column` on; null if nothing is rotated.
  __device__ __forceinline__ const A* at(index_t position, index_t column = 0) const {
    return data != nullptr ? data + position * row + column : nullptr;
  }
};

/// W cosines or sines of a row of `count`, from `at` on.
template <bool Packed, int W, class A>
__device__ __forceinline__ void load_angles(A (&values)[W],
                                            const A* row,
                                            index_t at,
                                            index_t count) {
  static_assert(W % pack<A>::width == 0, "load_angles: expected whole packs of angles");
#pragma unroll
  for (int i = 0; i < W; i += pack<A>::width) {
    const pack<A> some = load_elements<Packed>(row, at + i, count);
#pragma unroll
    for (int j = 0; j < pack<A>::width; ++j) {
      values[i + j] = some.elements[j];
    }
  }
}

/// Whether rows of x and of the table can be rotated in packs.
template <class S>
bool rotates_in_packs(const view<S, dims<3>, cuda>& x,
                      const rotation_table<accumulate_t<S>>& table) {
  const index_t half = x.extent(2) / 2;
  return in_packs(x.data(), x.stride(0), half) &&
         (x.extent(1) == 1 || x.stride(1) % pack<S>::width == 0) &&
         in_packs(table.data, table.row, half);
}

inline constexpr int rope_threads = 256;

/// Rotates x in place. A row has H packs_of_half packs in the lower halves of its heads. A thread
/// processes one or several of them and their partners in the upper half; a block processes as many
/// whole rows as its threads allow. Bound by moving 2 N H E elements: the heads share the table,
/// which comes from caches.
template <class S, bool Packed>
__global__ void __launch_bounds__(rope_threads)
    rope_kernel(S* x,  // [N, H, E] stride (row, head, 1)
                index_t row,
                index_t head,
                rotation_table<accumulate_t<S>> table,
                const index_t* positions,  // [N]; null: row n stands at first + n % length
                index_t length,
                index_t first,
                accumulate_t<S> direction,  // 1, or -1 to rotate back
                index_t N,
                index_t H,
                index_t half) {  // E/2
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width;
  const auto packs_of_half = static_cast<int>(ceil_div(half, W));
  const int packs = static_cast<int>(H) * packs_of_half;
  const int threads_of_row = min(packs, rope_threads);
  const int own = static_cast<int>(threadIdx.x) / threads_of_row;
  const int rows = rope_threads / threads_of_row;
  const index_t n = static_cast<index_t>(blockIdx.x) * rows + own;
  if (own >= rows || n >= N) {
    return;
  }
  const index_t position = positions != nullptr ? positions[n] : first + n % length;
  if (position < 0 || position >= table.positions) {
    return;
  }
  const A* const angles = table.at(position);
  for (int p = static_cast<int>(threadIdx.x) % threads_of_row; p < packs; p += threads_of_row) {
    S* const lower = x + n * row + p / packs_of_half * head;
    const int e = p % packs_of_half * W;
    pack<S> low = load_elements<Packed>(lower, e, half);
    pack<S> high = load_elements<Packed>(lower + half, e, half);
    A cosine[W], sine[W];
    load_angles<Packed>(cosine, angles, e, half);
    load_angles<Packed>(sine, angles + half, e, half);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      A a = widen(low.elements[i]), b = widen(high.elements[i]);
      rotate_pair(a, b, cosine[i], direction * sine[i]);
      low.elements[i] = narrow<S>(a);
      high.elements[i] = narrow<S>(b);
    }
    store_elements<Packed>(lower, e, half, low);
    store_elements<Packed>(lower + half, e, half, high);
  }
}

/// Rotates the rows of x. Rows whose position (from `positions`, or first + n % length) is outside
/// the table stay unchanged.
template <class S>
void rotate_rows(cuda_context& context,
                 const char* function,
                 const view<S, dims<3>, cuda>& x,
                 const rotation_table<accumulate_t<S>>& table,
                 const index_t* positions,  // [N], or null
                 index_t length,
                 index_t first,
                 accumulate_t<S> direction) {
  constexpr int W = pack<S>::width;
  const index_t N = x.extent(0), H = x.extent(1), half = x.extent(2) / 2;
  const index_t packs = H * ceil_div(half, W);
  if (N == 0 || packs == 0) {
    return;
  }
  const index_t rows_of_block = rope_threads / std::min<index_t>(packs, rope_threads);
  const bool packed = rotates_in_packs(x, table);
  launch(context,
         function,
         dim3(extent_of(ceil_div(N, rows_of_block), function)),
         dim3(rope_threads),
         0,
         packed ? rope_kernel<S, true> : rope_kernel<S, false>,
         x.data(),
         x.stride(0),
         x.stride(1),
         table,
         positions,
         length,
         first,
         direction,
         N,
         H,
         half);
}

struct cuda_rope_ops {
  template <scalar S>
  static void rope_forward(cuda_context& context,
                           view<S, dims<3>, cuda> x,
                           matrix_view<const accumulate_t<S>, cuda> table,
                           index_t length,
                           index_t first) {
    using A = accumulate_t<S>;
    rotate_rows(context, "rope_forward", x, rotation_table<A>(table), nullptr, length, first, A(1));
  }

  template <scalar S>
  static void rope_forward(cuda_context& context,
                           view<S, dims<3>, cuda> x,
                           matrix_view<const accumulate_t<S>, cuda> table,
                           vector_view<const index_t, cuda> positions) {
    using A = accumulate_t<S>;
    rotate_rows(context, "rope_forward", x, rotation_table<A>(table), positions.data(), 1, 0, A(1));
  }

  template <scalar S>
  static void rope_backward(cuda_context& context,
                            view<S, dims<3>, cuda> dx,
                            matrix_view<const accumulate_t<S>, cuda> table,
                            index_t length,
                            index_t first) {
    using A = accumulate_t<S>;
    rotate_rows(
        context, "rope_backward", dx, rotation_table<A>(table), nullptr, length, first, A(-1));
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
