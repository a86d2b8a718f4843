// Element-wise functions: the kernel of elementwise operations and gated activations.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/strided.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

struct map_policy {
  static constexpr int threads = 256;  // of a block
  /// Packs of each view for a thread. All are loaded before the first result is stored, and at
  /// least four blocks are resident: 32 KiB in flight for each input on a multiprocessor.
  static constexpr int packs = 2;
};

/// The least number of resident blocks, which limits a thread's registers: a function's own
/// `blocks`, if it has one.
template <class Function>
inline constexpr int resident_blocks = 4;
template <class Function>
requires requires {
  Function::blocks;
}
inline constexpr int resident_blocks<Function> = Function::blocks;

/// The result of a function of elements with several results.
template <class Value, int Count>
struct results {
  Value values[Count];
};

/// How a map is divided: a row among 2^lane_bits threads, in `pieces` if it is longer.
struct map_shape {
  row_numbers numbers;
  int lane_bits;
  unsigned pieces;  // of a row
  bool packed;
};

/// A row as a map sees it.
template <class Element>
struct map_row {
  Element* data;
  index_t step;

  template <int Width>
  __device__ __forceinline__ auto load(index_t column) const {
    return *reinterpret_cast<const pack<std::remove_const_t<Element>, Width>*>(data +
                                                                               column * step);
  }
  template <int Width>
  __device__ __forceinline__ void store(index_t column, const pack<Element, Width>& values) const {
    *reinterpret_cast<pack<Element, Width>*>(data + column * step) = values;
  }
};

/// The elements of a pack in the type that the function takes.
template <class S, int Width>
__device__ __forceinline__ pack<arithmetic_t<S>, Width> widened(const pack<S, Width>& from) {
  pack<arithmetic_t<S>, Width> values;
  widen_pack(values.elements, from);
  return values;
}

/// to[k][i] = result k of function(from[i]..), rounded to the storage type of Y.
template <int Outputs, class Y, int Width, class Function, class... Value>
__device__ __forceinline__ void map_values(pack<Y, Width> (&to)[Outputs],
                                           const Function& function,
                                           const pack<Value, Width>&... from) {
  arithmetic_t<Y> values[Outputs][Width];
#pragma unroll
  for (int i = 0; i < Width; ++i) {
    if constexpr (Outputs == 1) {
      values[0][i] = static_cast<arithmetic_t<Y>>(function(from.elements[i]...));
    } else {
      const results<arithmetic_t<Y>, Outputs> all = function(from.elements[i]...);
#pragma unroll
      for (int k = 0; k < Outputs; ++k) {
        values[k][i] = all.values[k];
      }
    }
  }
#pragma unroll
  for (int k = 0; k < Outputs; ++k) {
    to[k] = narrow_pack<Y>(values[k]);
  }
}

/// The pack at `column`, or the rest of the row.
template <int Width, int Outputs, class Function, class Y, class... X>
__device__ __forceinline__ void map_last_pack(const Function& function,
                                              index_t columns,
                                              index_t column,
                                              const map_row<Y> (&y)[Outputs],
                                              const map_row<const X>&... x) {
  if (column + Width <= columns) {
    pack<Y, Width> values[Outputs];
    map_values(values, function, widened(x.template load<Width>(column))...);
    for (int k = 0; k < Outputs; ++k) {
      y[k].store(column, values[k]);
    }
  } else if constexpr (Width > 1) {
    for (index_t c = column; c < columns; ++c) {
      map_last_pack<1>(function, columns, c, y, x...);
    }
  }
}

/// Packs `lane`, `lane` + lanes, .. of a row, map_policy::packs of them.
template <int Width, int Outputs, class Function, class Y, class... X>
__device__ __forceinline__ void map_packs(const Function& function,
                                          index_t columns,
                                          index_t lane,
                                          int lanes,
                                          const map_row<Y> (&y)[Outputs],
                                          const map_row<const X>&... x) {
  constexpr int packs = map_policy::packs;
  const index_t first = lane * Width, step = index_t{lanes} * Width;
  if (first + (packs - 1) * step + Width <= columns) {
    // Without a branch, so that nothing delays the loads.
    pack<Y, Width> values[packs][Outputs];
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      map_values(values[p], function, widened(x.template load<Width>(first + p * step))...);
    }
#pragma unroll
    for (int p = 0; p < packs; ++p) {
#pragma unroll
      for (int k = 0; k < Outputs; ++k) {
        y[k].store(first + p * step, values[p][k]);
      }
    }
  } else {
    for (index_t column = first; column < first + packs * step; column += step) {
      map_last_pack<Width>(function, columns, column, y, x...);
    }
  }
}

/// y[k][i] = function(x[i]..); output k begins `output_distance` after output k - 1. Bound by
/// moving each element once: in packs if all rows allow it, else element by element.
template <int Width, int Outputs, class Function, class Y, class... X>
__global__ void __launch_bounds__(map_policy::threads, resident_blocks<Function>)
    map_kernel(map_shape shape,
               Function function,
               index_t output_distance,
               row_places<Y> y,
               row_places<const X>... x) {
  allow_next_kernel();
  wait_for_previous_kernels();
  const int lanes = 1 << shape.lane_bits;
  const unsigned row = blockIdx.x / shape.pieces * (map_policy::threads >> shape.lane_bits) +
                       (threadIdx.x >> shape.lane_bits);
  if (row >= shape.numbers.rows) {
    return;
  }
  index_t offsets[1 + sizeof...(X)];
  find_row(offsets, row, shape.numbers, y, x...);
  const index_t lane =
      static_cast<index_t>(blockIdx.x % shape.pieces) * (map_policy::packs << shape.lane_bits) +
      (threadIdx.x & static_cast<unsigned>(lanes - 1));
  map_row<Y> to[Outputs];
#pragma unroll
  for (int k = 0; k < Outputs; ++k) {
    to[k] = {y.data + offsets[0] + k * output_distance, y.step};
  }
  [&]<std::size_t... V>(std::index_sequence<V...>) {
    if (shape.packed) {
      map_packs<Width>(function,
                       shape.numbers.columns,
                       lane,
                       lanes,
                       to,
                       map_row<const X>{x.data + offsets[1 + V], x.step}...);
    } else {
      map_packs<1>(function,
                   shape.numbers.columns,
                   lane,
                   lanes,
                   to,
                   map_row<const X>{x.data + offsets[1 + V], x.step}...);
    }
  }
  (std::index_sequence_for<X...>{});
}

template <int Width, int Outputs, class Function, class Y, class... X>
void run_map(cuda_context& context,
             const char* name,
             const Function& function,
             index_t output_distance,
             const memory_range& first_output,
             const row_numbers& numbers,
             const row_places<Y>& y,
             const row_places<const X>&... x) {
  map_shape shape{numbers, 0, 1, false};
  shape.packed = output_distance % Width == 0 && rows_in_packs(numbers, y, Width) &&
                 (rows_in_packs(numbers, x, Width) && ...);
  const index_t packs = ceil_div(numbers.columns, shape.packed ? Width : 1);
  while ((1 << shape.lane_bits) < map_policy::threads &&
         (map_policy::packs << shape.lane_bits) < packs) {
    ++shape.lane_bits;
  }
  const index_t pieces = ceil_div(packs, map_policy::packs << shape.lane_bits);
  const index_t row_blocks = ceil_div(numbers.rows, map_policy::threads >> shape.lane_bits);
  shape.pieces = extent_of(pieces, name);
  static_assert(Outputs <= 2);
  overlap memory{.written = {first_output}};
  if constexpr (Outputs == 2) {
    memory.written[1] = {static_cast<const Y*>(first_output.begin) + output_distance,
                         static_cast<const Y*>(first_output.end) + output_distance};
  }
  launch_overlapped(context,
                    name,
                    memory,
                    dim3(extent_of(row_blocks * pieces, name)),
                    dim3(map_policy::threads),
                    0,
                    map_kernel<Width, Outputs, Function, Y, X...>,
                    shape,
                    function,
                    output_distance,
                    y,
                    x...);
}

/// Runs the kernel on views of one shape. Several outputs have the layout of y, each
/// `output_distance` elements after the one before.
template <int Outputs = 1, class Function, class Y, class... X>
void map(cuda_context& context,
         const char* name,
         const Function& function,
         index_t output_distance,
         const Y& y,
         const X&... x) {
  using element = typename Y::value_type;
  constexpr int width =
      static_cast<int>(16 / std::max({sizeof(element), sizeof(typename X::value_type)...}));
  if (y.empty()) {
    return;
  }
  const joined_dimensions<1 + static_cast<int>(sizeof...(X))> joined(false, y, x...);
  [&]<std::size_t... V>(std::index_sequence<V...>) {
    run_map<width, Outputs>(context,
                            name,
                            function,
                            output_distance,
                            range_of(y),
                            joined.numbers(name),
                            joined.places(0, y.data()),
                            joined.places(1 + V, mtp::detail::input(x).data())...);
  }
  (std::index_sequence_for<X...>{});
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
