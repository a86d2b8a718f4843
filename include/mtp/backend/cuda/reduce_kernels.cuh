// Kernels of reductions. A team of threads, as large as needed, reduces a range of elements if it
// can keep it. A longer range is divided into chunks that a block keeps, and the chunks are
// combined in pairs: chunk 0 with 1, 2 with 3, then the pairs, and so on. So the grouping of
// elements depends only on their number. All kernels are bound by reading each element once.
#pragma once

#include <type_traits>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/strided.cuh"
#include "mtp/backend/cuda/team.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

struct reduce_policy {
  static constexpr int threads = 256;     // of a block
  static constexpr int packs = 4;         // of a chunk, for each thread of a team
  static constexpr int most_levels = 48;  // of pairs

  /// Elements that a team of `size` threads reduces at once.
  template <class S>
  MTP_HOST_DEVICE static constexpr int chunk(int size) {
    return size * packs * pack<S>::width;
  }
};

template <class A>
struct sum_reduction {
  using partial = A;
  bool mean;

  __device__ __forceinline__ static A nothing() { return A(0); }
  __device__ __forceinline__ static A add(A sum, A value, index_t) { return sum + value; }
  __device__ __forceinline__ static A combine(A a, A b) { return a + b; }
  __device__ __forceinline__ static A shuffle(A value, int distance) {
    return __shfl_xor_sync(all_lanes, value, distance);
  }
  template <class Y>
  __device__ __forceinline__ Y finish(A sum, index_t count) const {
    return narrow<Y>(mean ? sum / static_cast<A>(count) : sum);
  }
};

/// The largest element and its index; of equal ones the first. Without an index there is none.
template <class A>
struct best_reduction {
  struct partial {
    A value;
    index_t index;
  };
  bool smallest;  // elements have the opposite sign
  bool skips_nan;

  __device__ __forceinline__ static partial nothing() { return {A(0), -1}; }
  __device__ __forceinline__ partial add(partial best, A value, index_t index) const {
    const bool counts = value == value || !skips_nan;
    return combine(best, {smallest ? -value : value, counts ? index : -1});
  }
  /// NaN is larger than any number. The same for (b, a).
  __device__ __forceinline__ static partial combine(partial a, partial b) {
    const bool a_is_nan = a.value != a.value, b_is_nan = b.value != b.value;
    const bool equal = a.value == b.value || (a_is_nan && b_is_nan);
    const bool better = equal ? b.index < a.index : b_is_nan || b.value > a.value;
    return a.index < 0 || (b.index >= 0 && better) ? b : a;
  }
  __device__ __forceinline__ static partial shuffle(partial best, int distance) {
    return {__shfl_xor_sync(all_lanes, best.value, distance),
            __shfl_xor_sync(all_lanes, best.index, distance)};
  }
  template <class Y>
  __device__ __forceinline__ Y finish(partial best, index_t) const {
    if constexpr (std::is_integral_v<Y>) {
      return static_cast<Y>(best.index);
    } else {
      const A infinity = static_cast<A>(__uint_as_float(0x7f800000u));
      const A value = best.index < 0 ? -infinity : best.value;
      return narrow<Y>(smallest ? -value : value);
    }
  }
};

/// A line of elements, or those of a whole view in row-major order.
template <class S>
struct element_range {
  const S* data;
  index_t step;
  index_t count;
  bool packed;
  row_numbers numbers;       // of a view that is not a line, else without dimensions
  row_places<const S> rows;  // likewise

  __device__ __forceinline__ pack<S> load(index_t at) const {
    return packed && at + pack<S>::width <= count ? load_elements<true>(data, at, count)
                                                  : load_elements<false>(data, at, count, step);
  }
  __device__ __forceinline__ S load_scattered(index_t at) const {
    const index_t row = at / numbers.columns;
    index_t offset[1];
    find_row(offset, static_cast<unsigned>(row), numbers, rows);
    return data[offset[0] + (at - row * numbers.columns) * step];
  }
};

/// The reduction of elements `begin` .. `end` - 1, at most reduce_policy::chunk, by a team. Each of
/// its threads gets the result.
template <class Reduction, class S>
__device__ __forceinline__ typename Reduction::partial reduce_chunk(
    const Reduction& reduction,
    const element_range<S>& elements,
    index_t begin,
    index_t end,
    const team& own,
    typename Reduction::partial* shared) {  // [team_reduction_size]
  constexpr int W = pack<S>::width, packs = reduce_policy::packs;
  const index_t first = begin + own.rank * W, distance = index_t{own.size} * W;
  typename Reduction::partial result = Reduction::nothing();
  if (elements.numbers.dimensions == 0) {
    pack<S> kept[packs] = {};
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      if (first + p * distance < end) {
        kept[p] = elements.load(first + p * distance);
      }
    }
#pragma unroll
    for (int p = 0; p < packs; ++p) {
#pragma unroll
      for (int i = 0; i < W; ++i) {
        const index_t at = first + p * distance + i;
        if (at < end) {
          result = reduction.add(result, widen(kept[p].elements[i]), at);
        }
      }
    }
  } else {
#pragma unroll 1
    for (int p = 0; p < packs; ++p) {
#pragma unroll 1
      for (index_t at = first + p * distance; at < first + p * distance + W && at < end; ++at) {
        result = reduction.add(result, widen(elements.load_scattered(at)), at);
      }
    }
  }
  return own.reduce(
      result,
      Reduction::nothing(),
      shared,
      [](auto a, auto b) { return Reduction::combine(a, b); },
      [](auto value, int distance_) { return Reduction::shuffle(value, distance_); });
}

/// y of each row is the reduction of its elements, by a team.
template <class Reduction, class Y, class S>
__global__ void __launch_bounds__(reduce_policy::threads, 3)
    reduce_rows_kernel(Reduction reduction,
                       row_numbers numbers,
                       row_places<Y> y,
                       row_places<const S> x,
                       element_range<S> elements,  // of row 0
                       int team_size) {
  using partial = typename Reduction::partial;
  // [2, team_reduction_size], [most_levels]: level l holds 2^l chunks that wait for as many more.
  partial* const shared = dynamic_shared<partial>();
  partial* const levels = shared + 2 * team_reduction_size;
  const team own(team_size);
  const unsigned row = blockIdx.x * (blockDim.x / static_cast<unsigned>(team_size)) +
                       static_cast<unsigned>(own.number);
  const bool inside = row < numbers.rows;
  index_t offsets[2];
  find_row(offsets, inside ? row : 0, numbers, y, x);
  elements.data += offsets[1];
  const index_t count = elements.count, chunk = reduce_policy::chunk<S>(team_size);
  partial result = Reduction::nothing();
  index_t chunks = 0;
  for (index_t begin = 0; begin < count; begin += chunk, ++chunks) {
    const index_t end = begin + chunk < count ? begin + chunk : count;
    result = reduce_chunk(reduction,
                          elements,
                          begin,
                          inside ? end : begin,
                          own,
                          shared + chunks % 2 * team_reduction_size);
    if (count > chunk && own.rank == 0) {
      int level = 0;
      for (; chunks >> level & 1; ++level) {
        result = Reduction::combine(levels[level], result);
      }
      levels[level] = result;
    }
  }
  if (inside && own.rank == 0) {
    if (chunks > 1) {
      bool first = true;
      for (int level = 0; chunks >> level != 0; ++level) {
        if (chunks >> level & 1) {
          result = first ? levels[level] : Reduction::combine(levels[level], result);
          first = false;
        }
      }
    }
    y.data[offsets[0]] = reduction.template finish<Y>(result, count);
  }
}

/// partials[b] is the reduction of chunk b of all elements, by block b.
template <class Reduction, class S>
__global__ void __launch_bounds__(reduce_policy::threads, 3)
    reduce_chunks_kernel(Reduction reduction,
                         typename Reduction::partial* __restrict__ partials,  // [blocks]
                         element_range<S> elements) {
  const team own(reduce_policy::threads);
  const index_t chunk = reduce_policy::chunk<S>(reduce_policy::threads);
  const index_t begin = blockIdx.x * chunk;
  const index_t end = begin + chunk < elements.count ? begin + chunk : elements.count;
  const auto result = reduce_chunk(
      reduction, elements, begin, end, own, dynamic_shared<typename Reduction::partial>());
  if (own.rank == 0) {
    partials[blockIdx.x] = result;
  }
}

/// y is the reduction of all chunks, in the pairs of reduce_rows_kernel, by one block.
template <class Reduction, class Y>
__global__ void __launch_bounds__(reduce_policy::threads)
    combine_chunks_kernel(Reduction reduction,
                          Y* y,                                   // []
                          typename Reduction::partial* partials,  // [chunks]
                          index_t chunks,
                          index_t count) {
  for (index_t distance = 1; distance < chunks; distance *= 2) {
    for (index_t i = threadIdx.x; 2 * i * distance + distance < chunks; i += blockDim.x) {
      partials[2 * i * distance] =
          Reduction::combine(partials[2 * i * distance], partials[2 * i * distance + distance]);
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    *y = reduction.template finish<Y>(partials[0], count);
  }
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
