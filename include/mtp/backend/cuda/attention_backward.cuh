// Gradients of causal attention with matrix instructions. Probabilities are computed again, after
// Dao 2023, "FlashAttention-2" (arXiv 2307.08691), algorithm 2, but without atomics: one kernel
// adds up dq over the keys of a query, another one dk and dv over the queries of a key. That is
// seven products instead of five; in exchange no sum leaves registers, its order follows from the
// length alone, and scores pass through neither shared memory nor a barrier on their way to the
// next product.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "mtp/backend/cuda/attention_tile.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Both kernels keep rows of two matrices in registers as left operands (queries and dout, or keys
/// and values) and let tiles of the other two stream by. A warp has 32 of the rows where registers
/// hold as many without spilling, else 16.
template <int E>
struct attention_backward_policy {
  static constexpr int warps = 4;
  static constexpr int threads = warps * warp_size;
  static constexpr int query_tiles = E <= 64 ? 2 : 1;  // of 16 rows for each warp
  static constexpr int key_tiles = E <= 48 ? 2 : 1;
  static constexpr int streamed = 64;
  static constexpr int slots = 2;
  static constexpr int slot_size = 2 * streamed * head_tile<E>::stride;  // elements

  static constexpr int query_rows = warps * query_tiles * 16;
  static constexpr int key_rows = warps * key_tiles * 16;
  static_assert(query_rows <= slots * streamed && key_rows <= slots * streamed,
                "the rows to be kept go through the memory of the others");
  static constexpr std::size_t query_shared_bytes = sizeof(bf16) * slots * slot_size;
  static constexpr std::size_t key_shared_bytes =
      query_shared_bytes + sizeof(float2) * slots * streamed;
  static_assert(key_shared_bytes <= common_shared_bytes);
};

struct attention_backward_arguments {
  head_array<bf16> dq, dk, dv;                // [N, H, E], [N, G, E], [N, G, E]
  head_array<const bf16> dout, q, k, v, out;  // [N, H, E], k and v [N, G, E]
  const float* statistics = nullptr;          // [N, 2H] stride (statistics_row, 1)
  index_t statistics_row = 0;
  float2* terms = nullptr;      // [H, N], what the query kernel tells the other one of each row
  rotation_table<float> table;  // dq and dk are turned back; null: they are not
  index_t N = 0;
  int T = 0, H = 0, G = 0;
  float scale = 0;           // 1/sqrt(E)
  float exponent_scale = 0;  // the same for powers of two
  bool packed = false;       // all rows begin at multiples of 16 bytes
};

/// Rows of two matrices x and y of E columns, as left operands: 16 Tiles rows of each.
template <int E, int Tiles>
struct kept_rows {
  std::uint32_t x[Tiles][E / 16][4], y[Tiles][E / 16][4];

  __device__ __forceinline__ void load(const bf16* x_rows,  // [16 Tiles, E]
                                       const bf16* y_rows,  // [16 Tiles, E]
                                       int lane) {
#pragma unroll
    for (int i = 0; i < Tiles; ++i) {
#pragma unroll
      for (int step = 0; step < E / 16; ++step) {
        head_tile<E>::load_a(x[i][step], x_rows + 16 * i * head_tile<E>::stride, step, lane);
        head_tile<E>::load_a(y[i][step], y_rows + 16 * i * head_tile<E>::stride, step, lane);
      }
    }
  }

  /// xs = x times the transpose of 16 streamed rows, ys = y times that of 16 others.
  __device__ __forceinline__ void multiply(float (&xs)[Tiles][2][4],
                                           float (&ys)[Tiles][2][4],
                                           const bf16* x_streamed,  // [16, E]
                                           const bf16* y_streamed,  // [16, E]
                                           int lane) const {
#pragma unroll
    for (int i = 0; i < Tiles; ++i) {
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          xs[i][n][c] = ys[i][n][c] = 0;
        }
      }
    }
#pragma unroll
    for (int step = 0; step < E / 16; ++step) {
      std::uint32_t b[4];
      head_tile<E>::load_b(b, x_streamed, step, lane);
#pragma unroll
      for (int i = 0; i < Tiles; ++i) {
        multiply_pair(xs[i][0], xs[i][1], x[i][step], b);
      }
      head_tile<E>::load_b(b, y_streamed, step, lane);
#pragma unroll
      for (int i = 0; i < Tiles; ++i) {
        multiply_pair(ys[i][0], ys[i][1], y[i][step], b);
      }
    }
  }
};

/// Sums over streamed rows: 16 Tiles rows of E columns.
template <int E, int Tiles>
struct row_sums {
  float sums[Tiles][E / 8][4] = {};

  /// sums += a times 16 streamed rows.
  __device__ __forceinline__ void add(const std::uint32_t (&a)[Tiles][4],
                                      const bf16* streamed,  // [16, E]
                                      int lane) {
#pragma unroll
    for (int step = 0; step < E / 16; ++step) {
      std::uint32_t b[4];
      head_tile<E>::load_b_transposed(b, streamed, step, lane);
#pragma unroll
      for (int i = 0; i < Tiles; ++i) {
        multiply_pair(sums[i][2 * step], sums[i][2 * step + 1], a[i], b);
      }
    }
  }

  /// Leaves scale times the rows in shared memory, turned back to position 0 where there is a
  /// table.
  __device__ __forceinline__ void finish(bf16* results,  // [16 Tiles, E]
                                         float scale,
                                         const rotation_table<float>& table,
                                         int position,  // of the first row
                                         int valid,
                                         int lane) const {
    const int column = lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < Tiles; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int row = 16 * i + 8 * r + lane / 4;
        const float* const angles = row < valid ? table.at(position + row, column) : nullptr;
#pragma unroll
        for (int j = 0; j < E / 16; ++j) {
          float low[2], high[2];
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            low[c] = scale * sums[i][j][2 * r + c];
            high[c] = scale * sums[i][j + E / 16][2 * r + c];
            if (angles != nullptr) {
              rotate_pair(low[c], high[c], angles[8 * j + c], -angles[E / 2 + 8 * j + c]);
            }
          }
          head_tile<E>::set_pair(results, row, 8 * j + column, pack_bf16(low[0], low[1]));
          head_tile<E>::set_pair(results, row, 8 * j + E / 2 + column, pack_bf16(high[0], high[1]));
        }
      }
    }
  }
};

/// Block (b, h, last - i) takes a block of query rows of head h, longest rows first: dq, and for
/// each row, in terms, the logarithm of its sum of exponentials and dout . out. 6 E flops for each
/// pair of a row and a key; bound by matrix instructions and by what they read from shared memory.
template <int E>
__global__ void __launch_bounds__(attention_backward_policy<E>::threads, E <= 64 ? 2 : 3)
    attention_backward_query_kernel(const attention_backward_arguments a) {
  using policy = attention_backward_policy<E>;
  using tile = head_tile<E>;
  constexpr int tiles = policy::query_tiles, rows = policy::query_rows;
  constexpr int streamed = policy::streamed, threads = policy::threads;
  constexpr int slot_size = policy::slot_size;
  bf16* const ring = dynamic_shared<bf16>();  // [slots, 2, streamed, E]
  const unsigned thread = threadIdx.x;
  const int warp = static_cast<int>(threadIdx.x / warp_size);
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const int h = static_cast<int>(blockIdx.y), g = h / (a.H / a.G);
  const index_t sequence = static_cast<index_t>(blockIdx.x) * a.T;
  const int row0 = static_cast<int>(gridDim.z - 1 - blockIdx.z) * rows;
  const int valid = min(rows, a.T - row0);
  const int seen = row0 + valid;  // keys for the last row

  kept_rows<E, tiles> kept;  // of q and dout
  tile::template load_rows<rows, threads>(ring, a.q, sequence + row0, h, valid, thread, a.packed);
  tile::template load_rows<rows, threads>(
      ring + rows * tile::stride, a.dout, sequence + row0, h, valid, thread, a.packed);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  const int warp_row = warp * tiles * 16;
  kept.load(ring + warp_row * tile::stride, ring + (rows + warp_row) * tile::stride, lane);
  __syncthreads();

  const auto load_keys = [&](int key) {
    if (key < seen) {
      bf16* const to = ring + key / streamed % policy::slots * slot_size;
      tile::template load_rows<streamed, threads>(
          to, a.k, sequence + key, g, seen - key, thread, a.packed);
      tile::template load_rows<streamed, threads>(
          to + streamed * tile::stride, a.v, sequence + key, g, seen - key, thread, a.packed);
    }
    copy_async_commit();
  };
  load_keys(0);

  float exponent[tiles][2], mean[tiles][2];
#pragma unroll
  for (int i = 0; i < tiles; ++i) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = warp_row + 16 * i + 8 * r + lane / 4;
      const index_t n = sequence + row0 + row;
      exponent[i][r] = mean[i][r] = 0;
      if (row < valid) {
        const bf16* const out = a.out.at(n, h) + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < E / 8; ++j) {
          const std::uint32_t pair = load_pair(out + 8 * j, a.packed);
          const std::uint32_t gradient = kept.y[i][j / 2][j % 2 * 2 + r];
          mean[i][r] = std::fma(unpack_low(pair), unpack_low(gradient), mean[i][r]);
          mean[i][r] = std::fma(unpack_high(pair), unpack_high(gradient), mean[i][r]);
        }
        const float* const statistics = a.statistics + n * a.statistics_row + h;
        exponent[i][r] = std::fma(statistics[0], log2_of_e, -std::log2(statistics[a.H]));
      }
      mean[i][r] += __shfl_xor_sync(all_lanes, mean[i][r], 1);
      mean[i][r] += __shfl_xor_sync(all_lanes, mean[i][r], 2);
      if (row < valid && lane % 4 == 0) {
        a.terms[h * a.N + n] = {exponent[i][r], mean[i][r]};
      }
    }
  }

  row_sums<E, tiles> dq;
  for (int key = 0; key < seen; key += streamed) {
    copy_async_wait<0>();
    __syncthreads();
    load_keys(key + streamed);
    converge_warp();  // lanes have started different copies
    const bf16* const keys = ring + key / streamed % policy::slots * slot_size;
    // The last key that the warp's first row sees, counted from the first key of the tile.
    const int behind = row0 + warp_row - key;
    const bool masked = behind < streamed - 1;
#pragma unroll
    for (int group = 0; group < streamed; group += 16) {
      if (group > behind + 16 * tiles - 1) {
        break;  // no row of the warp sees more
      }
      float s[tiles][2][4], ds[tiles][2][4];
      kept.multiply(
          s, ds, keys + group * tile::stride, keys + (streamed + group) * tile::stride, lane);
      std::uint32_t p[tiles][4];
#pragma unroll
      for (int i = 0; i < tiles; ++i) {
#pragma unroll
        for (int n = 0; n < 2; ++n) {
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            const float probability =
                exp2_approximate(std::fma(s[i][n][c], a.exponent_scale, -exponent[i][c / 2]));
            ds[i][n][c] = probability * (ds[i][n][c] - mean[i][c / 2]);
            if (masked &&
                group + 8 * n + lane % 4 * 2 + c % 2 > behind + 16 * i + c / 2 * 8 + lane / 4) {
              ds[i][n][c] = 0;
            }
          }
        }
        pack_a(p[i], ds[i][0], ds[i][1]);
      }
      dq.add(p, keys + group * tile::stride, lane);
    }
  }
  __syncthreads();  // nobody reads the ring any more, and nothing is on its way into it
  bf16* const results = ring + warp_row * tile::stride;  // [16 tiles, E]
  dq.finish(results, a.scale, a.table, row0 + warp_row, valid - warp_row, lane);
  __syncwarp();
  tile::template store_rows<16 * tiles>(
      a.dq, sequence + row0 + warp_row, h, valid - warp_row, results, lane, a.packed);
}

/// Block (b, g, i) takes a block of keys of head g: dk and dv from all query heads of its group,
/// one after the other. Longest columns first. 8 E flops for each pair of a row and a key; bound by
/// matrix instructions and by what they read from shared memory.
template <int E>
__global__ void __launch_bounds__(attention_backward_policy<E>::threads, E == 64 ? 3 : 2)
    attention_backward_key_kernel(const attention_backward_arguments a) {
  using policy = attention_backward_policy<E>;
  using tile = head_tile<E>;
  constexpr int tiles = policy::key_tiles, rows = policy::key_rows;
  constexpr int streamed = policy::streamed, threads = policy::threads;
  constexpr int slot_size = policy::slot_size;
  bf16* const ring = dynamic_shared<bf16>();  // [slots, 2, streamed, E]
  float2* const ring_terms =
      reinterpret_cast<float2*>(ring + policy::slots * slot_size);  // [slots, streamed]
  const unsigned thread = threadIdx.x;
  const int warp = static_cast<int>(threadIdx.x / warp_size);
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const int g = static_cast<int>(blockIdx.y);
  const index_t sequence = static_cast<index_t>(blockIdx.x) * a.T;
  const int key0 = static_cast<int>(blockIdx.z) * rows;
  const int valid = min(rows, a.T - key0);

  kept_rows<E, tiles> kept;  // of k and v
  tile::template load_rows<rows, threads>(ring, a.k, sequence + key0, g, valid, thread, a.packed);
  tile::template load_rows<rows, threads>(
      ring + rows * tile::stride, a.v, sequence + key0, g, valid, thread, a.packed);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  const int warp_key = warp * tiles * 16;
  kept.load(ring + warp_key * tile::stride, ring + (rows + warp_key) * tile::stride, lane);
  __syncthreads();

  const auto load_queries = [&](int h, int query, int slot) {
    const int left = a.T - query;
    bf16* const to = ring + slot * slot_size;
    tile::template load_rows<streamed, threads>(
        to, a.q, sequence + query, h, left, thread, a.packed);
    tile::template load_rows<streamed, threads>(
        to + streamed * tile::stride, a.dout, sequence + query, h, left, thread, a.packed);
    // Rows behind the end are zero throughout: their probability of 1 meets nothing but zeros.
    if (thread < unsigned{streamed}) {
      const int own = static_cast<int>(thread);
      copy_async<8>(ring_terms + slot * streamed + own,
                    a.terms + h * a.N + sequence + query + min(own, left - 1),
                    own < left);
    }
  };
  const int first_query = key0 / streamed * streamed;
  const int end_head = (g + 1) * (a.H / a.G);
  int h = g * (a.H / a.G), query = first_query, slot = 0;
  load_queries(h, query, slot);
  copy_async_commit();

  row_sums<E, tiles> dk, dv;
  while (h < end_head) {
    copy_async_wait<0>();
    __syncthreads();
    const bool next_head = query + streamed >= a.T;
    if (h + next_head < end_head) {
      load_queries(h + next_head, next_head ? first_query : query + streamed, 1 - slot);
    }
    copy_async_commit();
    converge_warp();  // lanes have started different copies
    const bf16* const queries = ring + slot * slot_size;
    const bf16* const douts = queries + streamed * tile::stride;
    const float2* const terms = ring_terms + slot * streamed;
    // The first query that sees the warp's first key, counted from the first query of the tile.
    const int ahead = key0 + warp_key - query;
#pragma unroll
    for (int group = 0; group < streamed; group += 16) {
      if (group + 15 < ahead) {
        continue;  // none of these queries sees a key of the warp
      }
      float s[tiles][2][4], ds[tiles][2][4];
      kept.multiply(s, ds, queries + group * tile::stride, douts + group * tile::stride, lane);
      const bool masked = group < ahead + 16 * tiles - 1;
      std::uint32_t p[tiles][4], gradient[tiles][4];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const int column = group + 8 * n + lane % 4 * 2;
        const float4 pair = *reinterpret_cast<const float4*>(terms + column);
        const float exponent[2] = {pair.x, pair.z}, mean[2] = {pair.y, pair.w};
#pragma unroll
        for (int i = 0; i < tiles; ++i) {
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            s[i][n][c] = exp2_approximate(std::fma(s[i][n][c], a.exponent_scale, -exponent[c % 2]));
            ds[i][n][c] = s[i][n][c] * (ds[i][n][c] - mean[c % 2]);
            if (masked && column + c % 2 < ahead + 16 * i + c / 2 * 8 + lane / 4) {
              s[i][n][c] = ds[i][n][c] = 0;
            }
          }
        }
      }
#pragma unroll
      for (int i = 0; i < tiles; ++i) {
        pack_a(p[i], s[i][0], s[i][1]);
        pack_a(gradient[i], ds[i][0], ds[i][1]);
      }
      dv.add(p, douts + group * tile::stride, lane);
      dk.add(gradient, queries + group * tile::stride, lane);
    }
    h += next_head;
    query = next_head ? first_query : query + streamed;
    slot = 1 - slot;
  }
  __syncthreads();  // nobody reads the ring any more, and nothing is on its way into it
  bf16* const results = ring + warp_key * tile::stride;  // [16 tiles, E]
  bf16* const values = results + rows * tile::stride;    // [16 tiles, E]
  dk.finish(results, a.scale, a.table, key0 + warp_key, valid - warp_key, lane);
  dv.finish(values, 1, rotation_table<float>(), 0, 0, lane);
  __syncwarp();
  const index_t n = sequence + key0 + warp_key;
  tile::template store_rows<16 * tiles>(a.dk, n, g, valid - warp_key, results, lane, a.packed);
  tile::template store_rows<16 * tiles>(a.dv, n, g, valid - warp_key, values, lane, a.packed);
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
