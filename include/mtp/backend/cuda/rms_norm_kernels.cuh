// Kernels of RMSNorm: a team of threads processes a row, which stays in registers between the sum
// over it and its use. So forward moves 2 N C elements, and backward 3 N C, or 4 N C with a
// residual. Memory bounds both.
#pragma once

#include <cmath>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/strided.cuh"
#include "mtp/backend/cuda/team.cuh"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// The number of bytes in flight decides. By estimate a multiprocessor of an H100 needs 20 KiB in
/// flight all the time (3.35 TB/s by its data sheet, 0.8 us of latency, 132 multiprocessors).
/// Threads have in flight:
///   forward: 4 packs, 64 bytes. With 48 registers, 1344 threads are resident: 84 KiB, and each row
///   has its own team, so some read while others add up.
///   backward: the rows after the current one of a team, in shared memory: three of them if a
///   thread has one pack of a row. With two blocks on a multiprocessor that is 96 KiB.
struct rms_norm_policy {
  static constexpr int forward_packs = 4;  // of a row, that a thread keeps in registers
  static constexpr int forward_threads = 256;

  static constexpr int backward_threads = 512;  // of a block
  /// Packs of a row for a thread of backward: a long row is spread over a whole block, so that a
  /// thread's share of dweight fits into registers.
  static constexpr int backward_packs(index_t packs) {
    return packs <= backward_threads ? 1 : packs <= index_t{2} * backward_threads ? 2 : 4;
  }
  /// Packs of each operand that a thread has in shared memory or in flight to it; they determine
  /// the number of rows. x, dy and residual of 512 threads take 96 KiB.
  static constexpr int ring_packs = 4;
  /// The most packs of a row for which backward reads it once.
  static constexpr index_t most_packs = index_t{4} * backward_threads;
  /// Blocks that divide the rows in backward: two for a multiprocessor of an H100. Each sums its
  /// part of dweight on the chip; 256 C sums are written and read once, while 8192 rows of bf16
  /// move 24 times as much. Fixed, so that the order of the sum is fixed.
  static constexpr index_t backward_blocks = 256;
};

/// The index of a row of x [N, H, ..]. Rows without heads need no division.
struct head_place {
  unsigned n, h;

  __device__ __forceinline__ head_place(unsigned r, unsigned heads)
      : n(heads == 1 ? r : r / heads), h(r - n * heads) {}
};

/// Rows of x [N, H, C].
template <class Element>
struct head_rows {
  Element* data;  // [N, H, C] stride (row, head, 1)
  index_t row;
  index_t head;
  unsigned heads;

  explicit head_rows(const view<Element, dims<3>, cuda>& x)
      : data(x.data()),
        row(x.stride(0)),
        head(x.stride(1)),
        heads(static_cast<unsigned>(x.extent(1))) {}
  __device__ __forceinline__ Element* at(head_place place) const {
    return data + place.n * row + place.h * head;
  }
};

/// One number for each row.
template <class Element>
struct head_values {
  Element* data;  // [N, H] stride (row, head)
  index_t row;
  index_t head;

  explicit head_values(const matrix_view<Element, cuda>& x)
      : data(x.data()), row(x.stride(0)), head(x.stride(1)) {}
  __device__ __forceinline__ Element& at(head_place place) const {
    return data[place.n * row + place.h * head];
  }
};

/// y = x r weight
template <class S, bool Packed>
__global__ void __launch_bounds__(most_threads, 1)
    rms_norm_forward_kernel(head_rows<S> y,
                            head_values<accumulate_t<S>> inv_rms,
                            head_rows<const S> x,
                            const S* __restrict__ weight,  // [C]
                            unsigned rows,
                            int C,
                            accumulate_t<S> epsilon,
                            int team_size) {
  allow_next_kernel();
  wait_for_previous_kernels();
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width;
  const team own(team_size);
  const unsigned teams = blockDim.x / static_cast<unsigned>(team_size);
  const unsigned r = blockIdx.x * teams + static_cast<unsigned>(own.number);
  const bool inside = r < rows;  // the same for a whole team
  const head_place place(inside ? r : 0, x.heads);
  const kept_row<rms_norm_policy::forward_packs, strided_row<Packed, const S>> row(
      {x.at(place), 1, inside ? C : 0}, own);
  A squares = 0;
  row.each([&](int, const pack<S>& elements) {
    A values[W];
    widen_pack(values, elements);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      squares = std::fma(values[i], values[i], squares);
    }
  });
  const A mean = own.sum(squares, dynamic_shared<A>()) / static_cast<A>(C);
  if (!inside) {
    return;
  }
  const A inverse = A(1) / std::sqrt(mean + epsilon);
  if (own.rank == 0) {
    inv_rms.at(place) = inverse;
  }
  S* const to = y.at(place);
  row.each([&](int c, const pack<S>& elements) {
    A values[W], scale[W];
    widen_pack(values, elements);
    widen_pack(scale, load_elements<Packed>(weight, c, C));
#pragma unroll
    for (int i = 0; i < W; ++i) {
      values[i] = values[i] * inverse * scale[i];
    }
    store_elements<Packed>(to, c, C, narrow_pack<S>(values));
  });
}

/// The contribution of elements of a row to the sum of dy weight x.
template <int W, class A>
__device__ __forceinline__ A
add_products(A sum, const A (&v)[W], const A (&g)[W], const A (&w)[W]) {
#pragma unroll
  for (int i = 0; i < W; ++i) {
    sum = std::fma(g[i] * w[i], v[i], sum);
  }
  return sum;
}

/// dx of elements of a row without the residual: r dy weight + pull x, pull = -r^3 times the mean
/// of dy weight x.
template <int W, class A>
__device__ __forceinline__ void gradient_of(
    A (&dx)[W], const A (&v)[W], const A (&g)[W], const A (&w)[W], A inverse, A pull) {
#pragma unroll
  for (int i = 0; i < W; ++i) {
    dx[i] = std::fma(v[i], pull, g[i] * w[i] * inverse);
  }
}

/// Starts the copy of W elements from `at` on to shared memory, with zeros beyond the row.
template <bool Packed, class S>
__device__ __forceinline__ void copy_pack(pack<S>* shared, const S* row, int at, int count) {
  if constexpr (Packed) {
    copy_async_16(shared, row + (at < count ? at : 0), at < count);
  } else {
    *shared = load_elements<false>(row, at, count);
  }
}

/// dx of each row, and in partial[b] the contribution of the rows of block b to dweight. Pack p *
/// size + t of a row belongs to thread t of its team, for p < Kept; wider rows go through the
/// kernels below.
///
/// The bits of a row of dx depend only on C: a thread's products in order, then the tree of its
/// team. Each thread sums its columns over the rows of its team in order; at the end the block adds
/// its teams in order.
template <class S, bool Packed, int Kept>
__global__ void __launch_bounds__(rms_norm_policy::backward_threads, (Packed && Kept <= 2) ? 2 : 1)
    rms_norm_backward_kernel(head_rows<S> dx,
                             accumulate_t<S>* __restrict__ partial,  // [blocks, C], or null
                             head_rows<const S> dy,
                             head_rows<const S> x,
                             head_values<const accumulate_t<S>> inv_rms,
                             const S* __restrict__ weight,  // [C]
                             head_rows<const S> residual,   // data null: none
                             unsigned rows,
                             int C,
                             int team_size) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width, stages = rms_norm_policy::ring_packs / Kept;
  const int threads = static_cast<int>(blockDim.x);
  // [stages, operands, Kept, threads] packs, of which a thread uses those of its own number; after
  // them [2, team_reduction_size]. At the end: [Kept, W, threads] sums.
  pack<S>* const ring = dynamic_shared<pack<S>>();
  const int operands = residual.data != nullptr ? 3 : 2;
  A* const reduction = reinterpret_cast<A*>(ring + stages * operands * Kept * threads);
  pack<S>* const own_ring = ring + threadIdx.x;
  const team own(team_size);
  const unsigned teams = blockDim.x / static_cast<unsigned>(team_size);
  const int first = own.rank * W, step = team_size * W;
  const auto ask = [&](unsigned begin, int stage) {
    const unsigned r = begin + static_cast<unsigned>(own.number);
    const int end = r < rows ? C : 0;
    const head_place place(r < rows ? r : 0, x.heads);
    pack<S>* const to = own_ring + stage * operands * Kept * threads;
#pragma unroll
    for (int p = 0; p < Kept; ++p) {
      const int c = first + p * step;
      copy_pack<Packed>(to + p * threads, x.at(place), c, end);
      copy_pack<Packed>(to + (Kept + p) * threads, dy.at(place), c, end);
      if (residual.data != nullptr) {
        copy_pack<Packed>(to + (2 * Kept + p) * threads, residual.at(place), c, end);
      }
    }
    copy_async_commit();
  };
  pack<S> scale[Kept];
#pragma unroll
  for (int p = 0; p < Kept; ++p) {
    const int c = first + p * step;
    scale[p] = c < C ? load_elements<Packed>(weight, c, C) : pack<S>{};
  }
  A sums[Kept][W] = {};
  const unsigned stride = gridDim.x * teams;
  unsigned begin = blockIdx.x * teams;
#pragma unroll
  for (int stage = 0; stage + 1 < stages; ++stage) {
    ask(begin + static_cast<unsigned>(stage) * stride, stage);
  }
  // All teams of a block run the same number of rounds, because the sum of a team of several warps
  // contains a barrier.
  int stage = 0, turn = 0;
  for (; begin < rows; begin += stride) {
    ask(begin + static_cast<unsigned>(stages - 1) * stride,
        stage + stages - 1 < stages ? stage + stages - 1 : stage - 1);
    copy_async_wait<stages - 1>();
    const unsigned r = begin + static_cast<unsigned>(own.number);
    const head_place place(r < rows ? r : 0, x.heads);
    const A inverse = inv_rms.at(place);
    const pack<S>* const from = own_ring + stage * operands * Kept * threads;
    A products = 0;
#pragma unroll
    for (int p = 0; p < Kept; ++p) {
      A v[W], g[W], w[W];
      widen_pack(v, from[p * threads]);
      widen_pack(g, from[(Kept + p) * threads]);
      widen_pack(w, scale[p]);
      products = add_products(products, v, g, w);
    }
    const A mean = own.sum(products, reduction + turn * team_reduction_size) / static_cast<A>(C);
    const A pull = -mean * inverse * inverse * inverse;
#pragma unroll
    for (int p = 0; p < Kept; ++p) {
      const int c = first + p * step;
      A v[W], g[W], w[W];
      widen_pack(v, from[p * threads]);
      widen_pack(g, from[(Kept + p) * threads]);
      widen_pack(w, scale[p]);
#pragma unroll
      for (int i = 0; i < W; ++i) {
        sums[p][i] = std::fma(g[i], v[i] * inverse, sums[p][i]);
      }
      gradient_of(w, v, g, w, inverse, pull);
      if (residual.data != nullptr) {
        widen_pack(v, from[(2 * Kept + p) * threads]);
#pragma unroll
        for (int i = 0; i < W; ++i) {
          w[i] += v[i];
        }
      }
      if (r < rows && c < C) {
        store_elements<Packed>(dx.at(place), c, C, narrow_pack<S>(w));
      }
    }
    stage = stage + 1 < stages ? stage + 1 : 0;
    turn ^= 1;
  }
  copy_async_wait<0>();
  if (partial == nullptr) {
    return;
  }
  A* const all_sums = dynamic_shared<A>();
  __syncthreads();  // all rows have been read
#pragma unroll
  for (int p = 0; p < Kept; ++p) {
#pragma unroll
    for (int i = 0; i < W; ++i) {
      all_sums[(p * W + i) * threads + static_cast<int>(threadIdx.x)] = sums[p][i];
    }
  }
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < C; c += threads) {
    const int at = c / W, p = at / team_size, rank = at % team_size;
    A sum = 0;
    for (unsigned j = 0; j < teams; ++j) {
      sum += all_sums[(p * W + c % W) * threads + static_cast<int>(j) * team_size + rank];
    }
    partial[static_cast<index_t>(blockIdx.x) * C + c] = sum;
  }
}

/// dx of a row that is wider than a team can keep, by a block, which reads it twice.
template <class S, bool Packed>
__global__ void __launch_bounds__(most_threads, 1)
    rms_norm_backward_wide_kernel(head_rows<S> dx,
                                  head_rows<const S> dy,
                                  head_rows<const S> x,
                                  head_values<const accumulate_t<S>> inv_rms,
                                  const S* __restrict__ weight,  // [C]
                                  head_rows<const S> residual,   // data null: none
                                  int C) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width;
  const team own(static_cast<int>(blockDim.x));
  const int first = own.rank * W, step = own.size * W;
  const head_place place(blockIdx.x, x.heads);
  const A inverse = inv_rms.at(place);
  A v[W], g[W], w[W];
  const auto read = [&](int c) {
    widen_pack(v, load_elements<Packed>(x.at(place), c, C));
    widen_pack(g, load_elements<Packed>(dy.at(place), c, C));
    widen_pack(w, load_elements<Packed>(weight, c, C));
  };
  A products = 0;
  for (int c = first; c < C; c += step) {
    read(c);
    products = add_products(products, v, g, w);
  }
  const A mean = own.sum(products, dynamic_shared<A>()) / static_cast<A>(C);
  const A pull = -mean * inverse * inverse * inverse;
  for (int c = first; c < C; c += step) {
    read(c);
    gradient_of(w, v, g, w, inverse, pull);
    if (residual.data != nullptr) {
      widen_pack(v, load_elements<Packed>(residual.at(place), c, C));
#pragma unroll
      for (int i = 0; i < W; ++i) {
        w[i] += v[i];
      }
    }
    store_elements<Packed>(dx.at(place), c, C, narrow_pack<S>(w));
  }
}

/// partial[b, c] = sum over rows b, b + blocks, .. of dy x inv_rms, for rows that are wider than a
/// team can keep. Thread c of block b; reads 2 N C elements once more.
template <class S>
__global__ void __launch_bounds__(rms_norm_policy::forward_threads)
    rms_norm_backward_weight_kernel(accumulate_t<S>* __restrict__ partial,  // [blocks, C]
                                    head_rows<const S> dy,
                                    head_rows<const S> x,
                                    head_values<const accumulate_t<S>> inv_rms,
                                    unsigned rows,
                                    int C) {
  using A = accumulate_t<S>;
  const int c = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (c >= C) {
    return;
  }
  A sum = 0;
  for (unsigned r = blockIdx.y; r < rows; r += gridDim.y) {
    const head_place place(r, x.heads);
    sum = std::fma(widen(dy.at(place)[c]), widen(x.at(place)[c]) * inv_rms.at(place), sum);
  }
  partial[static_cast<index_t>(blockIdx.y) * C + c] = sum;
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
