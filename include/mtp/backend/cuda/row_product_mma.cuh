// Products of few rows of bf16 with a weight, by matrix instructions. The weight is read once.
//
// Decoding reads every weight for one to five rows, so memory bounds it: 2 N K bytes. A warp
// multiplies a tile of 16 outputs by 8 or 16 rows. The weight is the left factor: its elements go
// from memory to the registers of the lane that the instruction needs them in, 16 bytes at a time.
// This is possible because a product may process the steps of a block of 32 in any order if both
// factors use the same one. Many steps are in flight at once, across the tiles of a block, so the
// flow of data never stops.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/backend/cuda/row_pieces.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// For an H100: its memory answers after about a microsecond under load, so 3.4 TB/s need 26 KB in
/// flight to each of 132 multiprocessors. A warp has 8 KB in flight and a block 64 KB, so one block
/// on a multiprocessor is enough: a matrix of 2048 outputs has 128 blocks. That takes 64 registers
/// of a lane; two blocks of 256 threads leave it 128.
struct row_product_policy {
  static constexpr int max_rows = 16;      // of x
  static constexpr int tile = 16;          // outputs of a warp
  static constexpr int step = 64;          // inputs of a warp at a time: 128 bytes of a row
  static constexpr int max_threads = 256;  // of a block
  static constexpr int blocks = 2;         // on a multiprocessor
  static constexpr int max_splits = 8;     // warps that share the inputs of an output
  static constexpr index_t x_bytes = index_t{64} << 10;  // of x in shared memory
  static constexpr int sums_row = tile + 4;              // so that lanes write sums to all banks

  /// Steps of a warp in flight.
  template <bool Packed>
  static constexpr int steps_ahead = Packed ? 4 : 1;

  /// Warps that share the inputs of an output. They determine the order of sums, so their number
  /// depends only on K. A warp should have enough steps to fill steps_ahead.
  static constexpr int splits_of(index_t K) {
    const index_t steps = ceil_div(K, step);
    return steps <= 4 ? 1 : steps <= 8 ? 2 : steps <= 16 ? 4 : max_splits;
  }
  /// Inputs of all M rows that fit into shared memory at a time. Between two parts, all warps have
  /// finished their rounds.
  static constexpr index_t part_of(index_t K, index_t M) {
    const index_t all = round_up(K, step);
    const index_t round = index_t{step} * max_splits * steps_ahead<true>;
    return all * M * 2 <= x_bytes ? all : x_bytes / 2 / M / round * round;
  }
};
static_assert(row_product_policy::part_of(index_t{1} << 20, row_product_policy::max_rows) > 0);

/// y[m, n] = init[m, n] + sum, in S or in the precision of the sum.
template <class S>
struct row_product_output {
  S* y;                     // [M, N] stride (row, 1), or null
  accumulate_t<S>* wide_y;  // [M, N] stride (row, 1), or null
  index_t row;
  const S* init;  // [M, N] stride (init_row, 1), or null; may be y
  index_t init_row;

  /// The memory of M rows of N outputs.
  memory_range written(index_t M, index_t N) const {
    const index_t count = M > 0 && N > 0 ? (M - 1) * row + N : 0;
    return wide_y != nullptr ? memory_range{wide_y, wide_y + count} : memory_range{y, y + count};
  }

  __device__ __forceinline__ void write(index_t m, index_t n, accumulate_t<S> sum) const {
    if (init != nullptr) {
      sum += widen(init[m * init_row + n]);
    }
    if (wide_y != nullptr) {
      wide_y[m * row + n] = sum;
    } else {
      y[m * row + n] = narrow<S>(sum);
    }
  }
};

/// Rows of x, unchanged.
struct plain_rows {
  const bf16* x;  // [M, K] stride (row, 1)
  index_t row;
  bool packed;  // may be read 16 bytes at a time
  static constexpr bool packed_only = false;

  /// The address of element k of row m, and for packs of the elements after it. Null: zeros.
  __device__ __forceinline__ const bf16* at(int m, index_t k) const { return x + m * row + k; }
  /// The address of an element that exists for any M and K.
  __device__ __forceinline__ const bf16* origin() const { return x; }
  /// Called by all threads when the rows are in shared memory.
  __device__ __forceinline__ void finish(bf16*, int) const {}
};

/// The offset of element k of row m in shared memory: 32 elements of a row are contiguous, followed
/// by the same of the next row, so that the eight rows of an instruction use all banks.
__device__ __forceinline__ int shared_row_offset(int m, int k, int M) {
  return (k / 32 * M + m) * 32 + k % 32;
}

/// Starts the copy of elements [begin, begin + count) of M rows from row `first` on to shared
/// memory, with zeros beyond K.
template <class Rows>
__device__ __forceinline__ void stage_rows(
    bf16* shared, const Rows& rows, int first, int M, int begin, int count, int K) {
  constexpr int W = pack<bf16>::width;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < count / W * M;
       i += static_cast<int>(blockDim.x)) {
    const int m = i / 4 % M, block = i / 4 / M;
    const int k = begin + block * 32 + i % 4 * W;
    bf16* const to = shared + i * W;
    if (rows.packed) {
      const bf16* const from = k < K ? rows.at(first + m, k) : nullptr;
      copy_async_16(to, from != nullptr ? from : rows.origin(), from != nullptr);
    } else {
      for (int e = 0; e < W; ++e) {
        const bf16* const from = k + e < K ? rows.at(first + m, k + e) : nullptr;
        to[e] = from != nullptr ? *from : bf16(0.0f);
      }
    }
  }
  copy_async_commit();
}

/// A lane's part of a step of 16 outputs: lane 4g + t holds, for the outputs g (words 0 and 2) and
/// g + 8 (words 1 and 3), the inputs 8t .. 8t + 7 of the first and of the second 32 of the step.
struct weight_step {
  uint4 words[4];
};

template <bool Packed>
__device__ __forceinline__ uint4 load_weights(const bf16* row, int k, int K, bool valid) {
  if constexpr (Packed) {
    return load_streaming_16(row + k, valid && k < K);
  } else {
    return __builtin_bit_cast(uint4, load_elements<false>(row, k, valid ? K : 0));
  }
}

template <bool Packed>
__device__ __forceinline__ void load_step(weight_step& step,
                                          const bf16* low,   // row of output g
                                          const bf16* high,  // row of output g + 8
                                          int k,             // first input of this lane
                                          int K,
                                          bool valid) {
  step.words[0] = load_weights<Packed>(low, k, K, valid);
  step.words[1] = load_weights<Packed>(high, k, K, valid);
  step.words[2] = load_weights<Packed>(low, k + 32, K, valid);
  step.words[3] = load_weights<Packed>(high, k + 32, K, valid);
}

/// sums [16 outputs, 8 rows] += weights x^T over the 64 inputs of a step. `x` is this lane's
/// address in the first block of 32 for row g. Zeros replace a missing row: columns of the right
/// factor do not mix, so they change nothing.
__device__ __forceinline__ void multiply_step(
    float (&sums)[4], const weight_step& step, const bf16* x, int block_size, bool row_exists) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint4 low = step.words[2 * half], high = step.words[2 * half + 1];
    const uint4 row = load_shared_16(x + half * block_size, row_exists);
    const std::uint32_t first[4] = {low.x, high.x, low.y, high.y}, first_row[2] = {row.x, row.y};
    const std::uint32_t second[4] = {low.z, high.z, low.w, high.w}, second_row[2] = {row.z, row.w};
    mma_m16n8k16(sums, first, first_row);
    mma_m16n8k16(sums, second, second_row);
  }
}

/// Warp `split` of a group processes steps split, split + splits, .. of the 16 outputs of its
/// group; the parts are added in the order of the warps. Groups alternate over the tiles of N.
/// Tiles: of 8 rows. All of this is the same for any number of rows. Pieces: see row_pieces.cuh.
template <int Tiles, bool Packed, class Rows, class Pieces>
__global__ void __launch_bounds__(row_product_policy::max_threads, row_product_policy::blocks)
    row_product_mma_kernel(row_product_output<bf16> output,
                           Rows rows,
                           const bf16* __restrict__ all_weights,  // [N, K], or that of each piece
                           Pieces pieces,
                           index_t N,
                           int K,
                           int splits,
                           int part,  // inputs in shared memory at a time
                           bool weights_first) {
  using policy = row_product_policy;
  const row_piece piece = pieces.find(blockIdx.y);
  const int M = piece.rows;
  if (M == 0) {
    return;
  }
  const bf16* const __restrict__ w = all_weights + piece.weight_row * K;
  constexpr int ahead = policy::steps_ahead<Packed>, step_size = policy::step;
  constexpr int sums_size = Tiles * 8 * policy::sums_row;  // [8 Tiles rows, 16 outputs]
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int g = lane / 4, t = lane % 4;
  const int split = warp % splits, group = warp / splits;
  const int groups = static_cast<int>(blockDim.x) / warp_size / splits;
  const int steps = (K + step_size - 1) / step_size;
  const int rounds = (steps + splits * ahead - 1) / (splits * ahead);
  const int part_rounds = part / (step_size * ahead * splits);  // if there are several parts
  const bool in_parts = part < K;
  const index_t tiles = ceil_div(N, policy::tile);
  const index_t stride = static_cast<index_t>(gridDim.x) * groups;  // between tiles of a group
  bf16* const x = dynamic_shared<bf16>();                           // [part / 32, M, 32]
  const bf16* const own_x = x + shared_row_offset(g, 8 * t, M);
  float* const all_sums = reinterpret_cast<float*>(x + part * M);  // [2, groups, splits, sums_size]

  index_t first = static_cast<index_t>(blockIdx.x) * groups;  // tile of the block's first group
  // The last rows of a tile may be beyond N: the last row replaces them.
  const auto row_of = [&](index_t tile, int output_of_lane) {
    const index_t n = tile * policy::tile + output_of_lane;
    return w + (n < N ? n : N - 1) * K;
  };
  const auto input_of = [&](int step) { return step * step_size + 8 * t; };

  // Weights are constants, see overlap.cuh; rows and `init` are not. If loading weights before the
  // wait gains nothing, the rows are loaded first: after 64 KB of weights they would arrive last,
  // and all products wait for them.
  const auto ask_for_rows = [&] {
    allow_next_kernel();
    wait_for_previous_kernels();
    stage_rows(x, rows, piece.first, M, 0, part, K);
  };
  if (!weights_first) {
    ask_for_rows();
  }
  weight_step weights[ahead];
  {
    const bool valid = first + group < tiles;
    const bf16 *const low = row_of(first + group, g), *const high = row_of(first + group, g + 8);
#pragma unroll
    for (int p = 0; p < ahead; ++p) {
      load_step<Packed>(weights[p], low, high, input_of(p * splits + split), K, valid);
    }
  }
  if (weights_first) {
    ask_for_rows();
  }

  int begin = -1;  // of the part of x in shared memory; none yet
  for (int side = 0; first < tiles; first += stride, side ^= 1) {
    const index_t tile = first + group;
    float sums[Tiles][4] = {};
    for (int round = 0; round < rounds; ++round) {
      // Inside the loop, so that the compiler does not wait for x before it loads weights.
      if (begin < 0 || (in_parts && round % part_rounds == 0)) {
        const bool first_part = begin < 0;
        begin = round * ahead * splits * step_size;
        if (!first_part) {
          __syncthreads();  // all have read the previous part
          const int rest = steps * step_size - begin;
          stage_rows(x, rows, piece.first, M, begin, rest < part ? rest : part, K);
        }
        copy_async_wait<0>();
        __syncthreads();
        if (first_part) {
          rows.finish(x, M);
        }
      }
      // The registers of a step are refilled as soon as it has been multiplied: with the next round
      // of this tile, or the first round of the next tile.
      const bool last = round + 1 == rounds;
      const index_t next_tile = last ? tile + stride : tile;
      const int next_round = last ? 0 : round + 1;
      const bool valid = next_tile < tiles;
      const bf16 *const low = row_of(next_tile, g), *const high = row_of(next_tile, g + 8);
#pragma unroll
      for (int p = 0; p < ahead; ++p) {
        const int step = (round * ahead + p) * splits + split;
        if (step < steps) {
          const bf16* const at = own_x + (step * step_size - begin) * M;
#pragma unroll
          for (int r = 0; r < Tiles; ++r) {
            multiply_step(sums[r], weights[p], at + r * 8 * 32, 32 * M, r * 8 + g < M);
          }
        }
        load_step<Packed>(
            weights[p], low, high, input_of((next_round * ahead + p) * splits + split), K, valid);
        if constexpr (!Packed) {
          converge_warp();  // lanes have looked for the end of a row
        }
      }
    }
    // Two sides alternate: a warp that writes to one has passed the barrier after which it was
    // read.
    float* const parts = all_sums + (side * groups + group) * splits * sums_size;
    float* const own = parts + split * sums_size;
#pragma unroll
    for (int r = 0; r < Tiles; ++r) {
      float* const to = own + (r * 8 + 2 * t) * policy::sums_row + g;
      to[0] = sums[r][0];
      to[policy::sums_row] = sums[r][1];
      to[8] = sums[r][2];
      to[policy::sums_row + 8] = sums[r][3];
    }
    __syncthreads();
#pragma unroll 1
    for (int i = split * warp_size + lane; i < policy::tile * M; i += splits * warp_size) {
      const int m = i / policy::tile, output_of_tile = i % policy::tile;
      const index_t n = tile * policy::tile + output_of_tile;
      if (n < N) {
        float sum = 0;
        for (int j = 0; j < splits; ++j) {
          sum += parts[j * sums_size + m * policy::sums_row + output_of_tile];
        }
        output.write(piece.first + m, n, sum);
      }
    }
    converge_warp();  // lanes had different numbers of outputs
  }
}

/// Whether all K inputs of M rows fit into shared memory.
inline bool rows_fit(index_t M, index_t K) {
  return row_product_policy::part_of(K, M) >= K;
}

/// y = init + x W^T for pieces of 1 to M rows, M <= 16. Rows::packed_only: w can be read in packs.
template <class Rows, class Pieces>
void run_row_product_mma(cuda_context& context,
                         const char* function,
                         const row_product_output<bf16>& output,
                         const Rows& rows,
                         const Pieces& pieces,
                         index_t M,
                         const bf16* w,  // [N, K], or that of each piece
                         index_t N,
                         index_t K) {
  using policy = row_product_policy;
  check(K <= std::numeric_limits<int>::max() - policy::max_splits * policy::step * 8,
        function,
        ": rows of ",
        K,
        " inputs are too long");
  const index_t tiles = ceil_div(N, policy::tile), multiprocessors = context.multiprocessors();
  const int splits = policy::splits_of(K);
  const index_t most_groups = policy::max_threads / warp_size / splits;
  const index_t groups = std::clamp<index_t>(tiles / multiprocessors, 1, most_groups);
  const index_t grid = std::min(ceil_div(tiles, groups), multiprocessors * policy::blocks);
  const index_t part = policy::part_of(K, M);
  const auto with = [&](auto kernel, index_t row_tiles) {
    const index_t sums = 2 * groups * splits * row_tiles * 8 * policy::sums_row;
    const auto shared_bytes = static_cast<std::size_t>(part * M) * sizeof(bf16) +
                              static_cast<std::size_t>(sums) * sizeof(float);
    for_pieces(pieces, [&](const Pieces& some) {
      const auto run = [&](const auto& launch_kernel) {
        launch_kernel(dim3(extent_of(grid, function), some.count),
                      dim3(static_cast<unsigned>(groups * splits * warp_size)),
                      shared_bytes,
                      kernel,
                      output,
                      rows,
                      w,
                      some,
                      N,
                      static_cast<int>(K),
                      splits,
                      static_cast<int>(part),
                      Pieces::known && context.overlaps());
      };
      if constexpr (Pieces::known) {
        const overlap memory{.constants = {w, w + N * K}, .written = {output.written(M, N), {}}};
        run([&](auto... arguments) { launch_overlapped(context, function, memory, arguments...); });
      } else {
        run([&](auto... arguments) { launch(context, function, arguments...); });
      }
    });
  };
  if constexpr (!Rows::packed_only) {
    if (!in_packs(w, K, K)) {
      with(row_product_mma_kernel<2, false, Rows, Pieces>, 2);
      return;
    }
  }
  M <= 8 ? with(row_product_mma_kernel<1, true, Rows, Pieces>, 1)
         : with(row_product_mma_kernel<2, true, Rows, Pieces>, 2);
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
