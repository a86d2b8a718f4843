// A sequence that grows on a GPU without the host in between. Contracts: ops/sequence.hpp.
#pragma once

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/core/view.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

// A decoding cycle moves a few rows and a few numbers: all of these last as long as their launch.

struct sequence_policy {
  static constexpr int threads = 128;  // of a block
};

/// Thread m writes positions[m] and ids[m].
template <int Block>
__global__ void __launch_bounds__(Block)
    select_rows_kernel(index_t* __restrict__ positions,      // [M]
                       token_t* __restrict__ ids,            // [M]
                       const token_t* __restrict__ tokens,   // [capacity]
                       const index_t* __restrict__ state,    // [sequence_states]
                       const index_t* __restrict__ parents,  // of the rows of a tree; null: none
                       index_t capacity,
                       index_t offset,
                       index_t ahead,
                       index_t M) {
  const index_t m = static_cast<index_t>(blockIdx.x) * Block + threadIdx.x;
  if (m < M) {
    const index_t position = state[sequence_count] + offset + m, at = position + ahead;
    positions[m] = parents == nullptr
                       ? position
                       : state[sequence_count] - 1 - ahead +
                             mtp::detail::depth_in_tree(parents, offset + ahead + 1 + m);
    ids[m] = position >= 0 && at >= 0 && at < capacity ? tokens[at] : token_t{0};
  }
}

/// One pack of row blockIdx.x for each thread; blocks of column y share a row. Moves 2 M C
/// elements.
template <class S, bool Packed, int Block>
__global__ void __launch_bounds__(Block)
    store_rows_kernel(S* __restrict__ ring,  // [R, C] stride (ring_row, 1)
                      index_t ring_row,
                      index_t R,
                      const S* __restrict__ rows,  // [M, C] stride (row, 1)
                      index_t row,
                      const index_t* __restrict__ positions,  // [M]
                      index_t C) {
  const index_t m = blockIdx.x, position = positions[m];
  const index_t c =
      (static_cast<index_t>(blockIdx.y) * Block + threadIdx.x) * index_t{pack<S>::width};
  if (position >= 0 && c < C) {
    store_elements<Packed>(
        ring + position % R * ring_row, c, C, load_elements<Packed>(rows + m * row, c, C));
  }
}

/// The way back, shared out in the same way.
template <class S, bool Packed, int Block>
__global__ void __launch_bounds__(Block)
    load_rows_kernel(S* __restrict__ rows,  // [M, C] stride (row, 1)
                     index_t row,
                     const S* __restrict__ ring,  // [R, C] stride (ring_row, 1)
                     index_t ring_row,
                     index_t R,
                     const index_t* __restrict__ positions,  // [M]
                     index_t C) {
  const index_t m = blockIdx.x, position = positions[m];
  const index_t c =
      (static_cast<index_t>(blockIdx.y) * Block + threadIdx.x) * index_t{pack<S>::width};
  if (c < C) {
    pack<S> values;
    if (position >= 0) {
      values = load_elements<Packed>(ring + position % R * ring_row, c, C);
    } else {
#pragma unroll
      for (int i = 0; i < pack<S>::width; ++i) {
        values.elements[i] = S(0.0f);
      }
    }
    store_elements<Packed>(rows + m * row, c, C, values);
  }
}

/// Thread j writes draft j behind the confirmed tokens.
template <int Block>
__global__ void __launch_bounds__(Block)
    append_drafts_kernel(token_t* __restrict__ tokens,        // [capacity]
                         const index_t* __restrict__ state,   // [sequence_states]
                         const token_t* __restrict__ drafts,  // [J]
                         index_t capacity,
                         index_t ahead,
                         index_t J) {
  const index_t j = static_cast<index_t>(blockIdx.x) * Block + threadIdx.x;
  if (j < J) {
    const index_t at = state[sequence_count] + ahead + j;
    if (at >= 0 && at < capacity) {
      tokens[at] = drafts[j] < 0 ? token_t{0} : drafts[j];
    }
  }
}

/// One warp compares 32 drafts at a time until one is wrong.
template <int Block>
__global__ void __launch_bounds__(Block)
    accept_drafts_kernel(token_t* __restrict__ tokens,           // [capacity]
                         index_t* __restrict__ state,            // [sequence_states]
                         const token_t* __restrict__ predicted,  // [M]
                         index_t M,
                         index_t limit) {
  const int lane = static_cast<int>(threadIdx.x);
  const index_t count = state[sequence_count];
  if (count + M - 1 > limit || count >= limit) {
    if (lane == 0) {
      state[sequence_accepted] = -1;
    }
    return;
  }
  index_t accepted = M - 1;
  for (index_t first = 0; first < M - 1; first += warp_size) {
    const index_t j = first + lane;
    const unsigned wrong =
        __ballot_sync(all_lanes, j < M - 1 && tokens[count + j] != predicted[j] ? 1 : 0);
    if (wrong != 0) {
      accepted = first + __ffs(static_cast<int>(wrong)) - 1;
      break;
    }
  }
  __syncwarp();  // all have read before one writes
  if (lane == 0) {
    const bool is_token = predicted[accepted] >= 0;
    if (is_token) {
      tokens[count + accepted] = predicted[accepted];
    }
    state[sequence_count] = count + accepted + (is_token ? 1 : 0);
    state[sequence_accepted] = accepted;
  }
}

struct cuda_sequence_ops {
  static void select_rows(cuda_context& context,
                          vector_view<index_t, cuda> positions,
                          vector_view<token_t, cuda> ids,
                          const sequence_view<cuda>& sequence,
                          index_t offset,
                          index_t ahead) {
    const index_t M = positions.extent(0);
    launch(context,
           "select_rows",
           grid_of(M, "select_rows"),
           dim3(threads),
           0,
           select_rows_kernel<threads>,
           positions.data(),
           ids.data(),
           sequence.tokens.data(),
           sequence.state.data(),
           sequence.tree.parents.data(),
           sequence.tokens.extent(0),
           offset,
           ahead,
           M);
  }

  template <scalar S>
  static void store_rows(cuda_context& context,
                         matrix_view<S, cuda> ring,
                         matrix_view<const S, cuda> rows,
                         vector_view<const index_t, cuda> positions) {
    launch(context,
           "store_rows",
           grid_of_rows<S>(rows, "store_rows"),
           dim3(threads),
           0,
           are_packed<S>(ring, rows) ? store_rows_kernel<S, true, threads>
                                     : store_rows_kernel<S, false, threads>,
           ring.data(),
           ring.stride(0),
           ring.extent(0),
           rows.data(),
           rows.stride(0),
           positions.data(),
           rows.extent(1));
  }

  template <scalar S>
  static void load_rows(cuda_context& context,
                        matrix_view<S, cuda> rows,
                        matrix_view<const S, cuda> ring,
                        vector_view<const index_t, cuda> positions) {
    launch(context,
           "load_rows",
           grid_of_rows<S>(rows, "load_rows"),
           dim3(threads),
           0,
           are_packed<S>(ring, rows) ? load_rows_kernel<S, true, threads>
                                     : load_rows_kernel<S, false, threads>,
           rows.data(),
           rows.stride(0),
           ring.data(),
           ring.stride(0),
           ring.extent(0),
           positions.data(),
           rows.extent(1));
  }

  static void append_drafts(cuda_context& context,
                            const sequence_view<cuda>& sequence,
                            vector_view<const token_t, cuda> drafts,
                            index_t ahead) {
    const index_t J = drafts.extent(0);
    launch(context,
           "append_drafts",
           grid_of(J, "append_drafts"),
           dim3(threads),
           0,
           append_drafts_kernel<threads>,
           sequence.tokens.data(),
           sequence.state.data(),
           drafts.data(),
           sequence.tokens.extent(0),
           ahead,
           J);
  }

  static void accept_drafts(cuda_context& context,
                            const sequence_view<cuda>& sequence,
                            vector_view<const token_t, cuda> predicted,
                            index_t limit) {
    launch(context,
           "accept_drafts",
           dim3(1),
           dim3(warp_size),
           0,
           accept_drafts_kernel<warp_size>,
           sequence.tokens.data(),
           sequence.state.data(),
           predicted.data(),
           predicted.extent(0),
           limit);
  }

 private:
  static constexpr int threads = sequence_policy::threads;

  static dim3 grid_of(index_t count, const char* function) {
    return dim3(extent_of(ceil_div(count, threads), function));
  }
  template <class S, class Rows>
  static dim3 grid_of_rows(const Rows& rows, const char* function) {
    return dim3(extent_of(rows.extent(0), function),
                extent_of(ceil_div(rows.extent(1), threads * pack<S>::width), function));
  }
  template <class S, class A, class B>
  static bool are_packed(const A& a, const B& b) {
    return in_packs<S>(a.data(), a.stride(0), a.extent(1)) &&
           in_packs<S>(b.data(), b.stride(0), b.extent(1));
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
