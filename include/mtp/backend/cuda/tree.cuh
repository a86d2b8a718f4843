// Trees of drafts on a GPU. Contracts: ops/tree.hpp.
#pragma once

#include "mtp/backend/cuda/element.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/core/cache_view.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/tree.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

// All of these move a few numbers and last as long as their launch.

struct tree_policy {
  static constexpr int threads = 128;  // of a block
};

/// One thread: each row of a tree by confidence depends on those before it.
template <int Block>
__global__ void __launch_bounds__(Block)
    grow_tree_kernel(token_t* __restrict__ tokens,       // [capacity]
                     const index_t* __restrict__ state,  // [sequence_states]
                     index_t* __restrict__ parents,      // [rows]
                     index_t capacity,
                     const token_t* __restrict__ candidates,  // [D, W] stride (row, 1)
                     index_t candidates_row,
                     const double* __restrict__ log_probabilities,  // [D, W] stride (row, 1)
                     index_t log_probabilities_row,
                     index_t D,
                     draft_tree shape) {
  const index_t base = state[sequence_count] - 1;
  mtp::detail::growing_tree grown;
  parents[0] = -1;
  for (index_t r = 1; r < shape.rows(); ++r) {
    if (shape.is_dynamic()) {
      grown.add(
          candidates, candidates_row, log_probabilities, log_probabilities_row, D, shape.width());
    }
    const index_t rank = shape.is_dynamic() ? grown.ranks[r] : shape.rank(r);
    const index_t depth = shape.is_dynamic() ? grown.depths[r] : shape.depth(r);
    parents[r] = shape.is_dynamic() ? grown.parents[r] : shape.parent(r);
    const index_t at = base + r;
    if (at >= 0 && at < capacity) {
      const token_t token = rank < 0 ? token_t{0} : candidates[(depth - 1) * candidates_row + rank];
      tokens[at] = token < 0 ? token_t{0} : token;
    }
  }
}

/// One thread goes down the tree.
template <int Block>
__global__ void __launch_bounds__(Block)
    accept_tree_kernel(token_t* __restrict__ tokens,           // [capacity]
                       index_t* __restrict__ state,            // [sequence_states]
                       const index_t* __restrict__ parents,    // [M]
                       index_t* __restrict__ path,             // [M]
                       const token_t* __restrict__ predicted,  // [M]
                       index_t M,
                       index_t limit) {
  const index_t count = state[sequence_count], base = count - 1;
  for (index_t j = 0; j < M; ++j) {
    path[j] = base + j;
  }
  if (count + M - 1 > limit || count >= limit) {
    state[sequence_accepted] = -1;
    return;
  }
  index_t row = 0, accepted = 0;
  for (index_t c = 1; c < M; ++c) {  // a child has a higher number than its parent
    if (parents[c] == row && tokens[base + c] == predicted[row]) {
      row = c;
      path[++accepted] = base + c;
    }
  }
  for (index_t j = 0; j < accepted; ++j) {
    tokens[count + j] = predicted[path[j] - base];
  }
  const bool is_token = predicted[row] >= 0;
  if (is_token) {
    tokens[count + accepted] = predicted[row];
  }
  state[sequence_count] = count + accepted + (is_token ? 1 : 0);
  state[sequence_accepted] = accepted;
}

/// A thread moves one element of a key and of its value, or of a latent, through all places, in
/// order: nobody else touches that element.
template <class S, int Block>
__global__ void __launch_bounds__(Block)
    keep_path_kernel(S* cache,                          // keys [G, capacity, E], then values alike
                     const index_t* __restrict__ path,  // [rows]
                     index_t capacity,
                     index_t E,
                     index_t elements,  // 2 G E; of latents [capacity, E], E
                     index_t rows) {
  const index_t i = static_cast<index_t>(blockIdx.x) * Block + threadIdx.x;
  if (i >= elements) {
    return;
  }
  S* const own = cache + i / E * capacity * E + i % E;
  for (index_t j = 1; j < rows; ++j) {
    const index_t from = path[j], to = path[0] + j;
    if (from != to && to >= 0 && from < capacity) {
      own[to * E] = own[from * E];
    }
  }
}

template <class S, int Block>
__global__ void __launch_bounds__(Block)
    exclude_tokens_kernel(S* __restrict__ logits,  // [M, V] stride (row, 1)
                          index_t row,
                          const token_t* __restrict__ tokens,  // [M]
                          index_t M,
                          index_t V) {
  const index_t m = static_cast<index_t>(blockIdx.x) * Block + threadIdx.x;
  if (m < M && tokens[m] >= 0 && tokens[m] < V) {
    logits[m * row + tokens[m]] =
        narrow<S>(static_cast<accumulate_t<S>>(__uint_as_float(0xff800000u)));
  }
}

struct cuda_tree_ops {
  static void grow_tree(cuda_context& context,
                        const sequence_view<cuda>& sequence,
                        matrix_view<const token_t, cuda> candidates,
                        matrix_view<const double, cuda> log_probabilities,
                        const draft_tree& shape) {
    launch(context,
           "grow_tree",
           dim3(1),
           dim3(1),
           0,
           grow_tree_kernel<1>,
           sequence.tokens.data(),
           sequence.state.data(),
           sequence.tree.parents.data(),
           sequence.tokens.extent(0),
           candidates.data(),
           candidates.stride(0),
           log_probabilities.data(),
           log_probabilities.stride(0),
           candidates.extent(0),
           shape);
  }

  static void accept_tree(cuda_context& context,
                          const sequence_view<cuda>& sequence,
                          vector_view<const token_t, cuda> predicted,
                          index_t limit) {
    launch(context,
           "accept_tree",
           dim3(1),
           dim3(1),
           0,
           accept_tree_kernel<1>,
           sequence.tokens.data(),
           sequence.state.data(),
           sequence.tree.parents.data(),
           sequence.tree.path.data(),
           predicted.data(),
           predicted.extent(0),
           limit);
  }

  template <scalar S>
  static void keep_path(cuda_context& context,
                        cache_view<S, cuda> cache,
                        const sequence_view<cuda>& sequence,
                        index_t rows) {
    move_rows(context,
              cache.at(sequence.slot).data,
              sequence,
              cache.capacity,
              cache.head_dim,
              2 * cache.num_key_value_heads * cache.head_dim,
              rows);
  }

  template <scalar S>
  static void keep_path(cuda_context& context,
                        latent_cache_view<S, cuda> cache,
                        const sequence_view<cuda>& sequence,
                        index_t rows) {
    move_rows(context,
              cache.at(sequence.slot).data,
              sequence,
              cache.capacity,
              cache.width,
              cache.width,
              rows);
  }

  template <scalar S>
  static void exclude_tokens(cuda_context& context,
                             matrix_view<S, cuda> logits,
                             vector_view<const token_t, cuda> tokens) {
    const index_t M = logits.extent(0);
    launch(context,
           "exclude_tokens",
           dim3(extent_of(ceil_div(M, threads), "exclude_tokens")),
           dim3(threads),
           0,
           exclude_tokens_kernel<S, threads>,
           logits.data(),
           logits.stride(0),
           tokens.data(),
           M,
           logits.extent(1));
  }

 private:
  static constexpr int threads = tree_policy::threads;

  template <class S>
  static void move_rows(cuda_context& context,
                        S* cache,
                        const sequence_view<cuda>& sequence,
                        index_t capacity,
                        index_t width,
                        index_t elements,
                        index_t rows) {
    launch(context,
           "keep_path",
           dim3(extent_of(ceil_div(elements, threads), "keep_path")),
           dim3(threads),
           0,
           keep_path_kernel<S, threads>,
           cache,
           sequence.tree.path.data(),
           capacity,
           width,
           elements,
           rows);
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
