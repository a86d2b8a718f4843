// Embedding look-up and its gradient on a GPU. Contracts: ops/embedding.hpp.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/backend/cuda/token_order.cuh"
#include "mtp/backend/cuda/token_range.cuh"
#include "mtp/backend/cuda/wide_pack.cuh"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

struct embedding_policy {
  static constexpr int threads = 128;  // of a block with independent warps
  static constexpr int warps = threads / warp_size;
  static constexpr int gathered = 4;  // packs of a row that a lane copies
  static constexpr int batch = 4;     // rows of a token that a lane has in flight

  /// Tokens with more rows than this are summed by blocks.
  static constexpr int short_rows = warp_size;
  static constexpr int long_threads = 512;
  static constexpr int long_columns = warp_size;  // of a block
  static constexpr int long_rows = 256;           // that it has in shared memory
  static constexpr int long_batch = 16;           // that are read before they are added
  static constexpr index_t long_blocks = 512;     // as many as a large GPU holds
};

/// x[n] = table[tokens[n]], zeros where the row is not in the part. One warp for a slice of a row,
/// four packs a lane. Moves 2 N C elements.
template <class S, bool Packed>
__global__ void __launch_bounds__(embedding_policy::threads)
    embedding_forward_kernel(S* __restrict__ x,  // [N, C] stride (x_row, 1)
                             index_t x_row,
                             const S* __restrict__ table,         // [part.count, C]
                             const token_t* __restrict__ tokens,  // [N]
                             index_t N,
                             token_range part,
                             index_t C,
                             index_t slices,
                             fault_record* faults) {
  constexpr int W = pack<S>::width, gathered = embedding_policy::gathered;
  const index_t job = static_cast<index_t>(blockIdx.x) * embedding_policy::warps +
                      static_cast<index_t>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const index_t n = job / slices, first = (job % slices * gathered * warp_size + lane) * W;
  if (n >= N) {
    return;
  }
  const token_t token = tokens[n];
  const bool here = part.has(token);
  if (!part.knows(token) && lane == 0) {
    report_fault(faults, fault_token, n, token, part.all);
  }
  pack<S> values[gathered];
#pragma unroll
  for (int p = 0; p < gathered; ++p) {
    const index_t c = first + index_t{p} * warp_size * W;
    if (here && c < C) {
      values[p] = load_elements<Packed>(table + part.place_of(token) * C, c, C);
    } else {
#pragma unroll
      for (int i = 0; i < W; ++i) {
        values[p].elements[i] = S(0.0f);
      }
    }
  }
#pragma unroll
  for (int p = 0; p < gathered; ++p) {
    const index_t c = first + index_t{p} * warp_size * W;
    if (c < C) {
      store_elements<Packed>(x + n * x_row, c, C, values[p]);
    }
  }
}

/// Rows of the part and places before they are sorted. A token that is not there sorts after all
/// others.
template <int Block>
__global__ void __launch_bounds__(Block)
    list_tokens_kernel(token_t* __restrict__ sorted,        // [N]
                       std::int32_t* __restrict__ rows,     // [N]
                       std::int32_t* __restrict__ longs,    // [1 + N / (short_rows + 1)]
                       const token_t* __restrict__ tokens,  // [N]
                       index_t N,
                       token_range part,
                       fault_record* faults) {
  const index_t n = static_cast<index_t>(blockIdx.x) * Block + threadIdx.x;
  if (n == 0) {
    longs[0] = 0;
  }
  if (n < N) {
    const token_t token = tokens[n];
    if (!part.knows(token)) {
      report_fault(faults, fault_token, n, token, part.all);
    }
    sorted[n] = static_cast<token_t>(part.has(token) ? part.place_of(token) : part.count);
    rows[n] = static_cast<std::int32_t>(n);
  }
}

/// dtable[token] += the rows of a token, in order. One warp for each slice at each index of the
/// sorted list; it continues if the rows of a token begin there. Tokens with many rows are listed
/// in `longs`, in any order after their number. Reads N C elements of S, and reads and writes the
/// rows of the table that occur, in f32 for bf16.
template <class S, bool Packed>
__global__ void __launch_bounds__(embedding_policy::threads)
    embedding_backward_kernel(accumulate_t<S>* __restrict__ dtable,  // [V, C]
                              std::int32_t* __restrict__ longs,      // [1 + N / ..]
                              const S* __restrict__ dx,              // [N, C] stride (dx_row, 1)
                              index_t dx_row,
                              const token_t* __restrict__ sorted,     // [N]
                              const std::int32_t* __restrict__ rows,  // [N]
                              index_t N,
                              index_t V,
                              index_t C,
                              index_t slices) {
  constexpr int W = pack<S>::width, batch = embedding_policy::batch;
  const index_t job = static_cast<index_t>(blockIdx.x) * embedding_policy::warps +
                      static_cast<index_t>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const index_t begin = job / slices, slice = job % slices;
  if (begin >= N) {
    return;
  }
  const token_t token = sorted[begin];
  if (token >= V || (begin > 0 && sorted[begin - 1] == token)) {
    return;
  }
  const index_t next = begin + 1 + lane;
  const unsigned same = __ballot_sync(all_lanes, next < N && sorted[next] == token ? 1 : 0);
  if (same == all_lanes) {
    if (slice == 0 && lane == 0) {
      longs[1 + atomicAdd(longs, 1)] = static_cast<std::int32_t>(begin);
    }
    return;
  }
  const int length = 1 + __popc(same);  // equal tokens are adjacent
  const int row_of_lane = lane < length ? rows[begin + lane] : 0;
  const index_t c = (slice * warp_size + lane) * W;
  const bool inside = c < C;
  wide_pack<S> sums;
  if (inside) {
    sums.template load<Packed>(dtable + token * C, c, C);
  }
  for (int first = 0; first < length; first += batch) {
    pack<S> values[batch];
#pragma unroll
    for (int k = 0; k < batch; ++k) {
      const index_t row = __shfl_sync(all_lanes, row_of_lane, (first + k) % warp_size);
      if (inside && first + k < length) {
        values[k] = load_elements<Packed>(dx + row * dx_row, c, C);
      }
    }
#pragma unroll
    for (int k = 0; k < batch; ++k) {
      if (first + k < length) {
        accumulate_t<S> terms[W];
        widen_pack(terms, values[k]);
#pragma unroll
        for (int i = 0; i < W; ++i) {
          sums.elements[i] += terms[i];
        }
      }
    }
  }
  if (inside) {
    sums.template store<Packed>(dtable + token * C, c, C);
  }
}

/// The same for the tokens in `longs`. A block processes one slice of 32 columns of one token after
/// the other. All warps load the next rows while the first warp adds those in shared memory: one
/// row is one addition for each column, and nothing else is in that chain.
template <class S>
__global__ void __launch_bounds__(embedding_policy::long_threads)
    embedding_backward_long_kernel(accumulate_t<S>* __restrict__ dtable,    // [V, C]
                                   const std::int32_t* __restrict__ longs,  // [1 + N / ..]
                                   const S* __restrict__ dx,  // [N, C] stride (dx_row, 1)
                                   index_t dx_row,
                                   const token_t* __restrict__ sorted,     // [N]
                                   const std::int32_t* __restrict__ rows,  // [N]
                                   index_t N,
                                   index_t C,
                                   index_t slices) {
  constexpr int columns = embedding_policy::long_columns, tile_rows = embedding_policy::long_rows;
  constexpr int groups = embedding_policy::long_threads / columns, each = tile_rows / groups;
  constexpr int added = embedding_policy::long_batch;
  S* const tile = dynamic_shared<S>();  // [tile_rows, columns]
  auto* const list = reinterpret_cast<std::int32_t*>(tile + tile_rows * columns);  // [tile_rows]
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % columns, group = thread / columns;
  const index_t jobs = longs[0] * slices;
  for (index_t job = blockIdx.x; job < jobs; job += gridDim.x) {
    const index_t begin = longs[1 + job / slices];
    const token_t token = sorted[begin];
    const index_t c = job % slices * columns + lane;
    const bool inside = c < C;

    // Lists the rows of the tile at index `first` and returns their number. Contains a barrier.
    const auto list_rows = [&](index_t first) {
      const index_t place = first + thread;
      const bool belongs = thread < tile_rows && place < N && sorted[place] == token;
      if (belongs) {
        list[thread] = rows[place];
      }
      return __syncthreads_count(belongs ? 1 : 0);
    };
    S values[each];
    const auto fetch = [&](int count) {
#pragma unroll
      for (int k = 0; k < each; ++k) {
        const int r = group + k * groups;
        values[k] = inside && r < count ? dx[list[r] * dx_row + c] : S(0.0f);
      }
    };
    accumulate_t<S> sum = group == 0 && inside ? dtable[token * C + c] : accumulate_t<S>(0);
    int count = list_rows(begin);
    fetch(count);
    __syncthreads();  // all have read the list
    for (index_t first = begin; count > 0; first += tile_rows) {
#pragma unroll
      for (int k = 0; k < each; ++k) {
        tile[(group + k * groups) * columns + lane] = values[k];
      }
      const int next = list_rows(first + tile_rows);
      fetch(next);
      if (group == 0) {
        int r = 0;
#pragma unroll 2
        for (; r + added <= count; r += added) {
          accumulate_t<S> terms[added];
#pragma unroll
          for (int k = 0; k < added; ++k) {
            terms[k] = widen(tile[(r + k) * columns + lane]);
          }
#pragma unroll
          for (int k = 0; k < added; ++k) {
            sum += terms[k];
          }
        }
        for (; r < count; ++r) {
          sum += widen(tile[r * columns + lane]);
        }
      }
      __syncthreads();
      count = next;
    }
    if (group == 0 && inside) {
      dtable[token * C + c] = sum;
    }
  }
}

struct cuda_embedding_ops {
  template <scalar S>
  static void embedding_forward(cuda_context& context,
                                matrix_view<S, cuda> x,
                                weight_view<const S, cuda> table,
                                vector_view<const token_t, cuda> tokens) {
    read_rows(context, "embedding_forward", x, table, tokens, {0, table.outputs, table.outputs});
  }

  template <scalar S>
  static void embedding_backward(cuda_context& context,
                                 weight_view<accumulate_t<S>, cuda> dtable,
                                 matrix_view<const S, cuda> dx,
                                 vector_view<const token_t, cuda> tokens) {
    add_rows(
        context, "embedding_backward", dtable, dx, tokens, {0, dtable.outputs, dtable.outputs});
  }

  /// x (=) the rows of tokens in a part of a table, zeros where it does not have them.
  template <scalar S>
  static void read_rows(cuda_context& context,
                        const char* name,
                        matrix_view<S, cuda> x,
                        weight_view<const S, cuda> table,
                        vector_view<const token_t, cuda> tokens,
                        const token_range& part) {
    const index_t N = x.extent(0), C = x.extent(1);
    const index_t slices = ceil_div(C, embedding_policy::gathered * warp_size * pack<S>::width);
    const bool packed = in_packs(x.data(), x.stride(0), C) && in_packs(table.data, C, C);
    launch(context,
           name,
           grid_of_warps(N * slices, name),
           dim3(embedding_policy::threads),
           0,
           packed ? embedding_forward_kernel<S, true> : embedding_forward_kernel<S, false>,
           x.data(),
           x.stride(0),
           table.data,
           tokens.data(),
           N,
           part,
           C,
           slices,
           context.faults());
  }

  /// The rows of tokens in a part of a table (+=) those of dx, in the order of rows.
  template <scalar S>
  static void add_rows(cuda_context& context,
                       const char* name,
                       weight_view<accumulate_t<S>, cuda> dtable,
                       matrix_view<const S, cuda> dx,
                       vector_view<const token_t, cuda> tokens,
                       const token_range& part) {
    const index_t N = dx.extent(0), V = dtable.outputs, C = dx.extent(1);
    if (N == 0 || C == 0) {
      return;
    }
    const arena::scope scope(context.workspace());
    token_pairs pairs;
    for (int i = 0; i < 2; ++i) {
      pairs.tokens[i] = context.workspace().template take<token_t>(N);     // [N]
      pairs.rows[i] = context.workspace().template take<std::int32_t>(N);  // [N]
    }
    auto* const longs =
        context.workspace().template take<std::int32_t>(1 + most_longs(N));  // [1 + most_longs]
    launch(context,
           name,
           dim3(extent_of(ceil_div(N, embedding_policy::threads), name)),
           dim3(embedding_policy::threads),
           0,
           list_tokens_kernel<embedding_policy::threads>,
           pairs.tokens[0],
           pairs.rows[0],
           longs,
           tokens.data(),
           N,
           part,
           context.faults());
    const auto [sorted, rows] = sort_by_token(context, pairs, N, V);

    const index_t slices = ceil_div(C, warp_size * pack<S>::width);
    const bool packed = in_packs(dx.data(), dx.stride(0), C) && in_packs(dtable.data, C, C);
    launch(context,
           name,
           grid_of_warps(N * slices, name),
           dim3(embedding_policy::threads),
           0,
           packed ? embedding_backward_kernel<S, true> : embedding_backward_kernel<S, false>,
           dtable.data,
           longs,
           dx.data(),
           dx.stride(0),
           sorted,
           rows,
           N,
           V,
           C,
           slices);

    const index_t long_slices = ceil_div(C, embedding_policy::long_columns);
    launch(
        context,
        name,
        dim3(extent_of(std::min(most_longs(N) * long_slices, embedding_policy::long_blocks), name)),
        dim3(embedding_policy::long_threads),
        embedding_policy::long_rows *
            (embedding_policy::long_columns * sizeof(S) + sizeof(std::int32_t)),
        embedding_backward_long_kernel<S>,
        dtable.data,
        longs,
        dx.data(),
        dx.stride(0),
        sorted,
        rows,
        N,
        C,
        long_slices);
  }

  /// The most bytes of workspace that these operations need.
  template <scalar S>
  static constexpr index_t embedding_workspace(index_t rows, index_t, index_t, index_t) {
    return 2 * (arena_bytes(rows, sizeof(token_t)) + arena_bytes(rows, sizeof(std::int32_t))) +
           arena_bytes(1 + most_longs(rows), sizeof(std::int32_t)) +
           arena_bytes(sort_bytes(rows), 1);
  }

 private:
  /// The most tokens among N rows that have too many rows for a warp.
  static constexpr index_t most_longs(index_t N) { return N / (embedding_policy::short_rows + 1); }

  static dim3 grid_of_warps(index_t jobs, const char* function) {
    return dim3(extent_of(ceil_div(jobs, embedding_policy::warps), function));
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
