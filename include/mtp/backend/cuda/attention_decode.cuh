// Attention of a few rows over a cache with matrix instructions. The keys of a head are split among
// blocks, and what they found is combined: "Flash-Decoding for long-context inference", Dao,
// Haziza, Massa and Sizov 2023 (https://crfm.stanford.edu/2023/10/12/flashdecoding.html).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "mtp/backend/cuda/attention_tile.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// A block takes 128 positions of a key/value head, a warp 32 of them, and all rows and query heads
/// that look at them, 16 at a time. Where a split begins depends on its position alone, and so does
/// what a row gets from it: a row's bits do not depend on the rows beside it.
struct attention_decode_policy {
  static constexpr int warps = 4;
  static constexpr int threads = warps * warp_size;
  static constexpr int keys = 32;  // of a warp
  static constexpr int split = warps * keys;
  static constexpr int rows = 16;             // at a time
  static constexpr int summed = 8;            // of these, whose sums warps exchange at a time
  static constexpr int max_rows = 32;         // of a sequence
  static constexpr int max_rows_of_all = 64;  // M: workspace holds what these get from all splits

  static_assert(rows == 2 * summed, "a lane has the rows g and g + 8");

  static constexpr index_t splits(index_t capacity) { return ceil_div(capacity, split); }

  /// Blocks that share the splits of a head of a sequence; `heads`: of all sequences. How many
  /// splits are in use is known on the device only, and a recorded launch keeps its grid, so the
  /// grid is made for the device: two blocks of head width 128 are resident on a multiprocessor of
  /// an H100 and four of width 64. A grid for the capacity would be mostly blocks without work,
  /// each of which costs a launch and a read of the position.
  static constexpr index_t blocks_each = 4;  // for each multiprocessor, of all heads
  static constexpr index_t blocks(index_t capacity, index_t heads, index_t multiprocessors) {
    return std::min(splits(capacity), ceil_div(blocks_each * multiprocessors, heads));
  }

  static constexpr int widest = 128;  // head that results are combined for

  template <int E>
  static constexpr std::size_t shared_bytes() {
    constexpr int stride = head_tile<E>::stride;
    return sizeof(bf16) * 2 * split * stride + sizeof(float) * warps * summed * stride +
           sizeof(float2) * warps * rows;
  }
  static constexpr std::size_t combine_shared_bytes = sizeof(float) * warps * (widest + 1);
};
static_assert(attention_decode_policy::shared_bytes<attention_decode_policy::widest>() <=
              common_shared_bytes);

struct attention_decode_arguments {
  head_array<const bf16> q;       // [M, H, E], not rotated where there is a table
  head_array<const bf16> k, v;    // [M, G, E], new rows, k not rotated either
  head_array<bf16> keys, values;  // [capacity, G, E], the cache of slot 0
  index_t slot_stride = 0;        // elements from one slot to the next
  head_array<bf16> out;           // [M, H, E]
  float* sums = nullptr;          // [splits, M, H, E], values weighted by exponentials
  float2* terms = nullptr;      // [splits, M, H], largest score before scaling, sum of exponentials
  rotation_table<float> table;  // null: nothing is rotated
  const index_t* positions = nullptr;  // [M]
  const index_t* parents = nullptr;    // [M], where the rows are a tree
  int M = 0, H = 0, G = 0, E = 0;
  int capacity = 0;
  float exponent_scale = 0;  // 1/sqrt(E) for powers of two
  bool packed = false;       // all rows begin at multiples of 16 bytes
};

/// Rows of a launch that belong to one sequence.
struct attention_decode_run {
  int first = 0;  // of the launch's rows
  int rows = 0;
  int slot = 0;  // of the cache
};

/// Those of all sequences of a launch. An argument of the kernel, so that a recorded launch has it;
/// positions are read on the device.
struct attention_decode_runs {
  static constexpr int most = attention_decode_policy::max_rows_of_all;
  attention_decode_run run[most];
  int count = 0;

  void add(const attention_decode_run& next) { run[count++] = next; }
};

/// What a lane holds of 16 rows: rows g and g + 8 with g = lane / 4. Row i stands for query head
/// i % (H / G) of its group in row i / (H / G) of the `count` given, from row `m0` on.
template <int E>
struct query_fragment {
  std::uint32_t q[E / 16][4] = {};
  int last[1][2];  // the last key that a row sees, counted from the warp's first; -1: none

  __device__ __forceinline__ query_fragment(const attention_decode_arguments& a,
                                            int row0,
                                            int g,
                                            int m0,
                                            int count,
                                            int first,  // position of the first of them
                                            int key0,
                                            int lane) {
    const int group = a.H / a.G, column = lane % 4 * 2;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = row0 + lane / 4 + 8 * r, m = row / group;
      const int position = first + m;
      last[0][r] = -1;
      if (m < count && position >= 0 && position < a.capacity) {
        last[0][r] = position - key0;
        const bf16* const from = a.q.at(m0 + m, g * group + row % group) + column;
        const float* const angles = a.table.at(position, column);
#pragma unroll
        for (int j = 0; j < E / 16; ++j) {
          std::uint32_t low = load_pair(from + 8 * j, a.packed);
          std::uint32_t high = load_pair(from + 8 * j + E / 2, a.packed);
          if (angles != nullptr) {
            float lows[2] = {unpack_low(low), unpack_high(low)};
            float highs[2] = {unpack_low(high), unpack_high(high)};
#pragma unroll
            for (int c = 0; c < 2; ++c) {
              rotate_pair(lows[c], highs[c], angles[8 * j + c], angles[8 * j + E / 2 + c]);
            }
            low = pack_bf16(lows[0], lows[1]);
            high = pack_bf16(highs[0], highs[1]);
          }
          q[j / 2][j % 2 * 2 + r] = low;
          q[(j + E / 16) / 2][(j + E / 16) % 2 * 2 + r] = high;
        }
      }
    }
  }
};

/// Positions 128 split .. of head g of a sequence. First it writes the new rows among them into the
/// cache; nobody else reads these from there. Reads 4 E bytes for each position and is bound by
/// memory: all of it is on its way before anything is computed. Ends with a barrier. In a tree,
/// `own` is one row, which is computed behind the rows that lead to it, and nothing is written into
/// the cache.
template <int E, bool Tree>
__device__ __forceinline__ void decode_split(const attention_decode_arguments& a,
                                             const attention_decode_run& own,
                                             int g,
                                             int split,
                                             int first,  // position of the first row
                                             int end) {  // of what rows see
  using policy = attention_decode_policy;
  using tile = head_tile<E>;
  constexpr int keys = policy::keys, warps = policy::warps, rows = policy::rows;
  constexpr int summed = policy::summed;
  const int warp = static_cast<int>(threadIdx.x / warp_size);
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  bf16* const key_tile = dynamic_shared<bf16>() + warp * 2 * keys * tile::stride;  // [keys, E]
  bf16* const value_tile = key_tile + keys * tile::stride;                         // [keys, E]
  float* const sums = reinterpret_cast<float*>(
      dynamic_shared<bf16>() + warps * 2 * keys * tile::stride);  // [warps, summed, E]
  float2* const terms =
      reinterpret_cast<float2*>(sums + warps * summed * tile::stride);  // [warps, rows]
  const int key0 = split * policy::split + warp * keys;
  const int cached = max(0, min(first - key0, keys));  // of the warp's positions
  head_array<bf16> cached_keys = a.keys, cached_values = a.values;
  cached_keys.data += own.slot * a.slot_stride;
  cached_values.data += own.slot * a.slot_stride;
  const auto thread = static_cast<unsigned>(lane);
  tile::template load_rows<keys, warp_size, false>(
      key_tile, cached_keys, key0, g, cached, thread, a.packed);
  copy_async_commit();
  tile::template load_rows<keys, warp_size, false>(
      value_tile, cached_values, key0, g, cached, thread, a.packed);
  copy_async_commit();

  bool found = false;
  const auto add_new = [&]<bool Packed>(int row, int chunk) {
    pack<bf16> low{}, high{};
    const int position = key0 + row;
    bf16* const key_row = key_tile + row * tile::stride;
    bf16* const value_row = value_tile + row * tile::stride;
    if (position < end) {
      const index_t from = Tree ? row_of_path(a.parents, own.first, end - 1 - position)
                                : index_t{own.first + position - first};
      load_turned<E, Packed>(low, high, a.k.at(from, g), chunk, a.table.at(position));
      if constexpr (!Tree) {
        store_turned<E, Packed>(cached_keys.at(position, g), chunk, low, high);
      }
      store_turned<E, true>(key_row, chunk, low, high);
      load_turned<E, Packed>(low, high, a.v.at(from, g), chunk, nullptr);
      if constexpr (!Tree) {
        store_turned<E, Packed>(cached_values.at(position, g), chunk, low, high);
      }
      store_turned<E, true>(value_row, chunk, low, high);
      for (int i = 0; i < 8; ++i) {
        found = found || has_nonfinite(low.elements[i].bits() |
                                       std::uint32_t{high.elements[i].bits()} << 16);
      }
    } else {
      store_turned<E, true>(key_row, chunk, low, high);
      store_turned<E, true>(value_row, chunk, low, high);
    }
  };
  constexpr int pairs = E / 16;
#pragma unroll 1
  for (int i = cached * pairs + lane; i < keys * pairs; i += warp_size) {
    if (a.packed) {
      add_new.template operator()<true>(i / pairs, i % pairs);
    } else {
      add_new.template operator()<false>(i / pairs, i % pairs);
    }
  }
  const bool strange = __any_sync(all_lanes, found) != 0;

  const int group = a.H / a.G, count = own.rows * group;
#pragma unroll 1
  for (int row0 = 0; row0 < count; row0 += rows) {
    const query_fragment<E> queries(
        a, row0, g, own.first, own.rows, Tree ? end - 1 : first, key0, lane);
    copy_async_wait<1>();
    __syncwarp();
    float s[keys / 8][4] = {};
#pragma unroll
    for (int step = 0; step < E / 16; ++step) {
#pragma unroll
      for (int j = 0; j < keys / 16; ++j) {
        std::uint32_t b[4];
        tile::load_b(b, key_tile + 16 * j * tile::stride, step, lane);
        multiply_pair(s[2 * j], s[2 * j + 1], queries.q[step], b);
      }
    }
    std::uint32_t p[keys / 16][4];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float nothing = minus_infinity();
      float largest = nothing, total = 0;
#pragma unroll
      for (int j = 0; j < keys / 8; ++j) {
#pragma unroll
        for (int c = 2 * r; c < 2 * r + 2; ++c) {
          if (8 * j + lane % 4 * 2 + c % 2 > queries.last[0][r]) {
            s[j][c] = nothing;
          }
          largest = fmaxf(largest, s[j][c]);
        }
      }
      largest = fmaxf(largest, __shfl_xor_sync(all_lanes, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(all_lanes, largest, 2));
      const float shift = largest == nothing ? 0.0f : largest * a.exponent_scale;
#pragma unroll
      for (int j = 0; j < keys / 8; ++j) {
#pragma unroll
        for (int c = 2 * r; c < 2 * r + 2; ++c) {
          s[j][c] = exp2_approximate(std::fma(s[j][c], a.exponent_scale, -shift));
          total += s[j][c];
        }
      }
      total += __shfl_xor_sync(all_lanes, total, 1);
      total += __shfl_xor_sync(all_lanes, total, 2);
      if (lane % 4 == 0) {
        terms[warp * rows + lane / 4 + 8 * r] = {largest, total};
      }
    }
#pragma unroll
    for (int j = 0; j < keys / 16; ++j) {
      pack_a(p[j], s[2 * j], s[2 * j + 1]);
    }
    copy_async_wait<0>();
    __syncwarp();
    float out[1][E / 8][4] = {};
    if (strange) {
      add_nonfinite<E, 1>(out, value_tile, keys, queries.last, lane);
    }
#pragma unroll
    for (int j = 0; j < keys / 16; ++j) {
#pragma unroll
      for (int step = 0; step < E / 16; ++step) {
        std::uint32_t b[4];
        tile::load_b_transposed(b, value_tile + 16 * j * tile::stride, step, lane);
        if (strange) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            b[i] = without_nonfinite(b[i]);
          }
        }
        multiply_pair(out[0][2 * step], out[0][2 * step + 1], p[j], b);
      }
    }
    // Half of the rows at a time, so that 99 KiB of shared memory are enough for the widest heads.
#pragma unroll
    for (int r = 0; r < rows / summed; ++r) {
      const int first_row = row0 + r * summed;
      if (first_row >= count) {
        break;
      }
      float* const to = sums + (warp * summed + lane / 4) * tile::stride + lane % 4 * 2;
#pragma unroll
      for (int j = 0; j < E / 8; ++j) {
        *reinterpret_cast<float2*>(to + 8 * j) = {out[0][j][2 * r], out[0][j][2 * r + 1]};
      }
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < summed * E / 4; i += policy::threads) {
        const int row = i / (E / 4), e = i % (E / 4) * 4;
        const int m = (first_row + row) / group;
        if (m >= own.rows) {
          break;
        }
        const float2* const own_terms = terms + r * summed + row;
        float largest = own_terms[0].x;
        for (int w = 1; w < warps; ++w) {
          largest = fmaxf(largest, own_terms[w * rows].x);
        }
        const float shift = largest == minus_infinity() ? 0.0f : largest * a.exponent_scale;
        float4 sum{0, 0, 0, 0};
        float total = 0;
        for (int w = 0; w < warps; ++w) {
          const float2 term = own_terms[w * rows];
          const float weight = exp2_approximate(std::fma(term.x, a.exponent_scale, -shift));
          const float4 part =
              *reinterpret_cast<const float4*>(sums + (w * summed + row) * tile::stride + e);
          sum.x = std::fma(weight, part.x, sum.x);
          sum.y = std::fma(weight, part.y, sum.y);
          sum.z = std::fma(weight, part.z, sum.z);
          sum.w = std::fma(weight, part.w, sum.w);
          total = std::fma(weight, term.y, total);
        }
        const index_t to_row = (static_cast<index_t>(split) * a.M + own.first + m) * a.H +
                               g * group + (first_row + row) % group;
        *reinterpret_cast<float4*>(a.sums + to_row * E + e) = sum;
        if (e == 0) {
          a.terms[to_row] = {largest, total};
        }
      }
      __syncthreads();
    }
  }
}

/// Block (g, i, r) takes splits i, i + gridDim.y, .. of head g of sequence r, as far as its rows
/// see. At least two blocks to a multiprocessor: without that bound the compiler keeps to 64
/// registers and spills.
template <int E>
__global__ void __launch_bounds__(attention_decode_policy::threads, 2)
    attention_decode_kernel(const attention_decode_arguments a, const attention_decode_runs runs) {
  allow_next_kernel();
  wait_for_previous_kernels();
  const attention_decode_run own = runs.run[blockIdx.z];
  const int g = static_cast<int>(blockIdx.x), step = static_cast<int>(gridDim.y);
  const int first = first_position(a.positions + own.first);
  const int end = first < a.capacity ? min(first + own.rows, a.capacity) : 0;
#pragma unroll 1
  for (int split = static_cast<int>(blockIdx.y); split * attention_decode_policy::split < end;
       split += step) {
    decode_split<E, false>(a, own, g, split, first, end);
  }
}

/// Block (g, i, m) does so for row m of a tree alone: what stands in front of the tree is read
/// again for each row, mostly from the cache of the multiprocessors.
template <int E>
__global__ void __launch_bounds__(attention_decode_policy::threads, 2)
    attention_decode_tree_kernel(const attention_decode_arguments a) {
  allow_next_kernel();
  wait_for_previous_kernels();
  const int g = static_cast<int>(blockIdx.x), step = static_cast<int>(gridDim.y);
  const int m = static_cast<int>(blockIdx.z), first = first_position(a.positions);
  const attention_decode_run own{m, 1, 0};
  const int position = first_position(a.positions + m);
  const int end = position >= 0 && position < a.capacity ? position + 1 : 0;
#pragma unroll 1
  for (int split = static_cast<int>(blockIdx.y); split * attention_decode_policy::split < end;
       split += step) {
    decode_split<E, true>(a, own, g, split, first, end);
  }
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
