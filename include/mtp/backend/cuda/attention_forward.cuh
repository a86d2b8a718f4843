// Causal attention forward with matrix instructions, over whole sequences or over a cache, after
// Dao 2023, "FlashAttention-2" (arXiv 2307.08691), algorithm 1.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "mtp/backend/cuda/attention_tile.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// A block takes 128 query rows of a head, a warp 32 of them: each fragment of keys and values
/// serves two tiles of 16 rows, which halves what is read from shared memory. A tile of 64 keys is
/// on its way while one of values is in use, and the other way round: a step of either keeps the
/// matrix units busy for longer than a copy takes. For E = 128 two blocks fit on a multiprocessor,
/// by shared memory (68 KiB of 164 on compute capability 8.0) as by registers.
struct attention_forward_policy {
  static constexpr int warps = 4;
  static constexpr int threads = warps * warp_size;
  static constexpr int tiles = 2;  // of 16 rows for each warp
  static constexpr int rows = warps * tiles * 16;
  static constexpr int keys = 64;

  template <int E>
  static constexpr std::size_t shared_bytes() {
    return sizeof(bf16) * (rows + 2 * keys) * head_tile<E>::stride;
  }
};
static_assert(attention_forward_policy::shared_bytes<128>() <= common_shared_bytes);

struct attention_forward_arguments {
  head_array<const bf16> q;     // [N, H, E]
  head_array<bf16> rotated;     // the same, where it is rotated in place
  head_array<const bf16> k, v;  // [N, G, E], or a cache [capacity, G, E] with any strides
  head_array<bf16> out;         // [N, H, E]
  float* statistics = nullptr;  // [N, 2H] stride (statistics_row, 1); may be null
  index_t statistics_row = 0;
  rotation_table<float> table;         // of q; null: q is rotated already
  const index_t* positions = nullptr;  // [T] in a cache; null: row t stands at t
  int T = 0;                           // rows of a sequence
  int capacity = 0;                    // positions that k and v have
  int H = 0, G = 0;
  float scale = 0;           // 1/sqrt(E)
  float exponent_scale = 0;  // the same for powers of two
  bool packed = false;       // all rows begin at multiples of 16 bytes
};

/// Query rows of a block into shared memory, rotated, and back to where they come from.
template <int E, int Rows, int Threads>
__device__ __forceinline__ void load_rotated_rows(bf16* tile,  // [Rows, E]
                                                  bf16* x,     // [valid, E] stride (row, 1)
                                                  index_t row_stride,
                                                  int valid,
                                                  const rotation_table<float>& table,
                                                  index_t position,  // of the first row
                                                  unsigned thread,
                                                  bool packed) {
  const auto rotate = [&]<bool Packed>(int row, int chunk) {
    pack<bf16> low{}, high{};
    const index_t p = position + row;
    if (row < valid && p >= 0 && p < table.positions) {
      bf16* const head = x + row * row_stride;
      load_turned<E, Packed>(low, high, head, chunk, table.at(p));
      store_turned<E, Packed>(head, chunk, low, high);
    }
    store_turned<E, true>(tile + row * head_tile<E>::stride, chunk, low, high);
  };
  constexpr int pairs = E / 16;
  if (packed) {
#pragma unroll 2
    for (int i = static_cast<int>(thread); i < Rows * pairs; i += Threads) {
      rotate.template operator()<true>(i / pairs, i % pairs);
    }
  } else {
#pragma unroll 1
    for (int i = static_cast<int>(thread); i < Rows * pairs; i += Threads) {
      rotate.template operator()<false>(i / pairs, i % pairs);
    }
  }
}

/// Whether a thread finds infinities or NaN in the chunks that it loaded.
template <int E, int Rows, int Threads>
__device__ __forceinline__ bool finds_nonfinite(const bf16* tile, unsigned thread) {  // [Rows, E]
  bool found = false;
  head_tile<E>::template for_each_chunk<Rows, Threads>(thread, [&](int row, int chunk) {
    const uint4 words =
        *reinterpret_cast<const uint4*>(tile + row * head_tile<E>::stride + chunk * 8);
    found = found || has_nonfinite(words.x) || has_nonfinite(words.y) || has_nonfinite(words.z) ||
            has_nonfinite(words.w);
  });
  return found;
}

/// Makes zeros of the infinities and NaN in the chunks that a thread loaded.
template <int E, int Rows, int Threads>
__device__ __forceinline__ void clear_nonfinite(bf16* tile, unsigned thread) {  // [Rows, E]
  head_tile<E>::template for_each_chunk<Rows, Threads>(thread, [&](int row, int chunk) {
    auto& values = *reinterpret_cast<pack<bf16>*>(tile + row * head_tile<E>::stride + chunk * 8);
    for (int i = 0; i < 8; ++i) {
      if ((values.elements[i].bits() & 0x7f80) == 0x7f80) {
        values.elements[i] = bf16::from_bits(0);
      }
    }
  });
}

/// What a lane holds of 32 rows of queries: rows 16 i + g and 16 i + g + 8 of its warp for i < 2,
/// with g = lane / 4; the columns 2t and 2t + 1 of each 8, with t = lane % 4.
template <int E>
struct attention_rows {
  static constexpr int tiles = attention_forward_policy::tiles;
  static constexpr int keys = attention_forward_policy::keys;
  static constexpr int stride = head_tile<E>::stride;

  float out[tiles][E / 8][4];            // sums of probabilities times values
  float maximum[tiles][2];               // of scores before scaling
  float sum[tiles][2];                   // of the probabilities in the lane's own columns
  std::uint32_t p[tiles][keys / 16][4];  // probabilities of the current keys

  __device__ __forceinline__ attention_rows() {
#pragma unroll
    for (int i = 0; i < tiles; ++i) {
#pragma unroll
      for (int j = 0; j < E / 8; ++j) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          out[i][j][c] = 0;
        }
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        maximum[i][r] = minus_infinity();
        sum[i][r] = 0;
      }
    }
  }

  /// Scores of 64 keys, then their probabilities, relative to the largest score so far. `behind`:
  /// the last key that the lane's first row sees, counted from the first key; 64 or more: all rows
  /// see all keys.
  __device__ __forceinline__ void see_keys(
      const bf16* queries, const bf16* key_tile, float exponent_scale, int behind, int lane) {
    float s[tiles][keys / 8][4] = {};
    converge_warp();  // lanes have started different copies
#pragma unroll
    for (int step = 0; step < E / 16; ++step) {
      std::uint32_t a[tiles][4];
#pragma unroll
      for (int i = 0; i < tiles; ++i) {
        head_tile<E>::load_a(a[i], queries + 16 * i * stride, step, lane);
      }
#pragma unroll
      for (int j = 0; j < keys / 16; ++j) {
        std::uint32_t b[4];
        head_tile<E>::load_b(b, key_tile + 16 * j * stride, step, lane);
#pragma unroll
        for (int i = 0; i < tiles; ++i) {
          multiply_pair(s[i][2 * j], s[i][2 * j + 1], a[i], b);
        }
      }
    }
    if (behind < keys) {
      const int column = lane % 4 * 2;
#pragma unroll
      for (int i = 0; i < tiles; ++i) {
#pragma unroll
        for (int j = 0; j < keys / 8; ++j) {
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            if (8 * j + column + c % 2 > behind + 16 * i + c / 2 * 8) {
              s[i][j][c] = minus_infinity();
            }
          }
        }
      }
    }
    float factor[tiles][2];
    bool rescale = false;
#pragma unroll
    for (int i = 0; i < tiles; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        // fmaxf drops NaN, but the probability of such a score is NaN, and with it the row.
        float largest = maximum[i][r];
#pragma unroll
        for (int j = 0; j < keys / 8; ++j) {
          largest = fmaxf(largest, fmaxf(s[i][j][2 * r], s[i][j][2 * r + 1]));
        }
        largest = fmaxf(largest, __shfl_xor_sync(all_lanes, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(all_lanes, largest, 2));
        // A row that has seen nothing but -inf must not subtract it from itself.
        const float shift = largest == minus_infinity() ? 0.0f : largest * exponent_scale;
        factor[i][r] = exp2_approximate(std::fma(maximum[i][r], exponent_scale, -shift));
        rescale = rescale || !(factor[i][r] == 1);
        maximum[i][r] = largest;
        float total = 0;
#pragma unroll
        for (int j = 0; j < keys / 8; ++j) {
#pragma unroll
          for (int c = 2 * r; c < 2 * r + 2; ++c) {
            s[i][j][c] = exp2_approximate(std::fma(s[i][j][c], exponent_scale, -shift));
            total += s[i][j][c];
          }
        }
        sum[i][r] = std::fma(sum[i][r], factor[i][r], total);
      }
#pragma unroll
      for (int j = 0; j < keys / 16; ++j) {
        pack_a(p[i][j], s[i][2 * j], s[i][2 * j + 1]);
      }
    }
    // Maxima seldom change behind the first keys; a factor of 1 changes no bit.
    if (__any_sync(all_lanes, rescale)) {
#pragma unroll
      for (int i = 0; i < tiles; ++i) {
#pragma unroll
        for (int j = 0; j < E / 8; ++j) {
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            out[i][j][c] *= factor[i][c / 2];
          }
        }
      }
    }
  }

  /// out += p times values.
  __device__ __forceinline__ void add_values(const bf16* values, int lane) {
    converge_warp();  // lanes have started different copies
#pragma unroll
    for (int j = 0; j < keys / 16; ++j) {
#pragma unroll
      for (int step = 0; step < E / 16; ++step) {
        std::uint32_t b[4];
        head_tile<E>::load_b_transposed(b, values + 16 * j * stride, step, lane);
#pragma unroll
        for (int i = 0; i < tiles; ++i) {
          multiply_pair(out[i][2 * step], out[i][2 * step + 1], p[i][j], b);
        }
      }
    }
  }
};

/// Block (b, h, last - i) takes query rows 128 i .. of head h in sequence b, longest rows first.
/// 4 E flops for each pair of a row and a key; bound by matrix instructions for E = 128 and by
/// exponentials for narrow heads.
template <int E>
__global__ void __launch_bounds__(attention_forward_policy::threads, E <= 64 ? 3 : 2)
    attention_forward_kernel(const attention_forward_arguments a) {
  using policy = attention_forward_policy;
  using tile = head_tile<E>;
  constexpr int rows = policy::rows, keys = policy::keys, threads = policy::threads;
  bf16* const queries = dynamic_shared<bf16>();             // [rows, E]
  bf16* const key_tile = queries + rows * tile::stride;     // [keys, E]
  bf16* const value_tile = key_tile + keys * tile::stride;  // [keys, E]
  const unsigned thread = threadIdx.x;
  const int warp = static_cast<int>(threadIdx.x / warp_size);
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const int h = static_cast<int>(blockIdx.y), g = h / (a.H / a.G);
  const index_t sequence = static_cast<index_t>(blockIdx.x) * a.T;
  const int row0 = static_cast<int>(gridDim.z - 1 - blockIdx.z) * rows;
  const int valid_rows = min(rows, a.T - row0);
  const int position = row0 + first_position(a.positions);          // of the block's first row
  const int seen = max(0, min(position + valid_rows, a.capacity));  // keys for the last row

  const auto load_tile = [&](bf16* to, const head_array<const bf16>& from, int key) {
    if (key < seen) {
      tile::template load_rows<keys, threads>(
          to, from, sequence + key, g, seen - key, thread, a.packed);
    }
    copy_async_commit();
  };
  if (a.table.data == nullptr) {
    tile::template load_rows<rows, threads>(
        queries, a.q, sequence + row0, h, valid_rows, thread, a.packed);
  }
  load_tile(key_tile, a.k, 0);
  if (a.table.data != nullptr) {
    load_rotated_rows<E, rows, threads>(queries,
                                        a.rotated.at(sequence + row0, h),
                                        a.rotated.row,
                                        valid_rows,
                                        a.table,
                                        position,
                                        thread,
                                        a.packed);
  }

  attention_rows<E> own;
  const int warp_row = warp * policy::tiles * 16;
  for (int key = 0; key < seen; key += keys) {
    // The last key that the block's first row sees, counted from the first key of the tile.
    const int behind = position - key;
    const bool masked = behind < keys - 1;
    const bool takes_part = behind + warp_row + policy::tiles * 16 > 0;

    copy_async_wait<0>();
    __syncthreads();
    load_tile(value_tile, a.v, key);
    if (takes_part) {
      own.see_keys(queries + warp_row * tile::stride,
                   key_tile,
                   a.exponent_scale,
                   masked ? behind + warp_row + lane / 4 : keys,
                   lane);
    }

    copy_async_wait<0>();
    bool strange = false;
    if (masked) {
      strange = __syncthreads_or(finds_nonfinite<E, keys, threads>(value_tile, thread)) != 0;
    } else {
      __syncthreads();
    }
    load_tile(key_tile, a.k, key + keys);
    if (strange) {
      const int last = behind + warp_row + lane / 4;
      add_nonfinite<E, policy::tiles>(
          own.out, value_tile, keys, {{last, last + 8}, {last + 16, last + 24}}, lane);
      __syncthreads();
      clear_nonfinite<E, keys, threads>(value_tile, thread);
      __syncthreads();
    }
    if (takes_part) {
      own.add_values(value_tile, lane);
    }
  }
  copy_async_wait<0>();
  __syncthreads();  // where there were no keys, queries have just arrived

  // A warp's queries have served: its results take their place on the way out.
  bf16* const results = queries + warp_row * tile::stride;
#pragma unroll
  for (int i = 0; i < policy::tiles; ++i) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = own.sum[i][r];
      sum += __shfl_xor_sync(all_lanes, sum, 1);
      sum += __shfl_xor_sync(all_lanes, sum, 2);
      const float inverse = 1 / sum;
      const int own_row = 16 * i + lane / 4 + 8 * r, row = warp_row + own_row;
      if (a.statistics != nullptr && lane % 4 == 0 && row < valid_rows) {
        float* const to = a.statistics + (sequence + row0 + row) * a.statistics_row + h;
        to[0] = own.maximum[i][r] * a.scale;
        to[a.H] = inverse;
      }
      const bool outside = position + row < 0 || position + row >= a.capacity;
#pragma unroll
      for (int j = 0; j < E / 8; ++j) {
        const std::uint32_t pair =
            pack_bf16(own.out[i][j][2 * r] * inverse, own.out[i][j][2 * r + 1] * inverse);
        tile::set_pair(results, own_row, 8 * j + lane % 4 * 2, outside ? 0 : pair);
      }
    }
  }
  __syncwarp();
  tile::template store_rows<policy::tiles * 16>(
      a.out, sequence + row0 + warp_row, h, valid_rows - warp_row, results, lane, a.packed);
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
