// Teams: the threads that share a row, and their reductions.
#pragma once

#include <algorithm>

#include "mtp/backend/cuda/device.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// How a block is divided into teams of one size: a power of two up to a warp, or whole warps.
struct team_shape {
  int size;   // threads of a team
  int teams;  // of a block

  int threads() const { return size * teams; }
};

/// Elements of shared memory that one reduction over teams needs.
inline constexpr int team_reduction_size = 32;

inline constexpr int most_threads = 1024;

/// The smallest team in which each thread has at most `packs_each` packs of a row, up to the size
/// of a block; `threads` holds as many teams as fit. It depends only on the length of a row, and so
/// does the order of every sum over a row.
inline team_shape team_for(index_t packs, int packs_each, int threads) {
  const index_t wanted = ceil_div(std::max<index_t>(packs, 1), packs_each);
  int size = 1;
  while (size < warp_size && size < wanted) {
    size *= 2;
  }
  if (wanted > warp_size) {
    size = static_cast<int>(std::min<index_t>(round_up(wanted, warp_size), most_threads));
  }
  return {size, std::max(1, threads / size)};
}

/// The length of a row in the type that kernels count with, with room for a few packs beyond its
/// end. Throws mtp::error if it is too long.
inline int row_length(index_t columns, const char* function) {
  check(columns < index_t{1} << 30,
        function,
        ": expected rows of less than 2^30 elements, got ",
        columns);
  return static_cast<int>(columns);
}

#if defined(__CUDACC__) || defined(MTP_CUDA_EMULATION)

/// The team of this thread.
struct team {
  int size;
  int number;  // within the block
  int rank;    // of this thread

  __device__ __forceinline__ explicit team(int threads)
      : size(threads),
        number(static_cast<int>(threadIdx.x) / threads),
        rank(static_cast<int>(threadIdx.x) % threads) {}

  /// combine(a, b) over the values of the team: a tree of lanes, then one of warps. `combine` is
  /// commutative, so every thread gets the same bits.
  ///
  /// All threads of the block call it; teams of several warps wait at a barrier. `shared` must
  /// differ from that of the previous call; two that alternate are enough.
  template <class T, class Combine, class Shuffle>
  __device__ __forceinline__ T reduce(T value,
                                      T neutral,
                                      T* shared,  // [team_reduction_size]
                                      const Combine& combine,
                                      const Shuffle& shuffle) const {
    const int lanes = size < warp_size ? size : warp_size;
    for (int distance = lanes / 2; distance > 0; distance /= 2) {
      value = combine(value, shuffle(value, distance));
    }
    if (size > warp_size) {
      const int warp = static_cast<int>(threadIdx.x) / warp_size;
      const int lane = static_cast<int>(threadIdx.x) % warp_size;
      if (lane == 0) {
        shared[warp] = value;
      }
      __syncthreads();
      // Lane i of every warp takes the value of warp i of its team, and all use the same tree.
      const int warps = size / warp_size;
      value = lane < warps ? shared[number * warps + lane] : neutral;
#pragma unroll
      for (int distance = warp_size / 2; distance > 0; distance /= 2) {
        value = combine(value, shuffle(value, distance));
      }
    }
    return value;
  }

  template <class T>
  __device__ __forceinline__ T sum(T value, T* shared) const {
    return reduce(
        value,
        T(0),
        shared,
        [](T a, T b) { return a + b; },
        [](T of_lane, int distance) { return __shfl_xor_sync(all_lanes, of_lane, distance); });
  }

  /// The maximum() of device.cuh.
  template <class T>
  __device__ __forceinline__ T largest(T value, T* shared) const {
    return reduce(
        value,
        static_cast<T>(-__uint_as_float(0x7f800000u)),
        shared,
        [](T a, T b) { return maximum(a, b); },
        [](T of_lane, int distance) { return __shfl_xor_sync(all_lanes, of_lane, distance); });
  }
};

/// A row of which each thread of a team keeps the first packs and reads the rest when needed: pack
/// p * size + t belongs to thread t. All kept packs are loaded at once. `Row` has its number of
/// `columns`, and load(first element of a pack).
template <int Kept, class Row>
struct kept_row {
  using index = decltype(Row::columns);

  Row row;
  index first, distance;
  pack<typename Row::element> packs[Kept];

  __device__ __forceinline__ kept_row(const Row& of, const team& own)
      : row(of),
        first(static_cast<index>(own.rank) * pack<typename Row::element>::width),
        distance(static_cast<index>(own.size) * pack<typename Row::element>::width),
        packs() {
#pragma unroll
    for (int p = 0; p < Kept; ++p) {
      if (first + p * distance < row.columns) {
        packs[p] = row.load(first + p * distance);
      }
    }
  }

  /// Calls body(first element, pack, the same pack of other rows of this length ..) for each pack
  /// of this thread, in order.
  template <class Body, class... Other>
  __device__ __forceinline__ void each(const Body& body,
                                       const kept_row<Kept, Other>&... more) const {
#pragma unroll
    for (int p = 0; p < Kept; ++p) {
      if (first + p * distance < row.columns) {
        body(first + p * distance, packs[p], more.packs[p]...);
      }
    }
    for (index at = first + Kept * distance; at < row.columns; at += distance) {
      body(at, row.load(at), more.row.load(at)...);
    }
  }
};

#endif

}  // namespace mtp::inline MTP_ABI::cuda_detail
