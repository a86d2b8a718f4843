// The likeliest tokens of rows of logits on a GPU. Contract: ops/best_tokens.hpp.
//
// A block for each row. The n best are selected by the digits of the logits, as choose_tokens
// selects top_k; they are then gathered, in any order, and sorted where they lie: no two are equal,
// so the result has one order. A row is read some ten times and stays in the second level cache;
// sorting takes log2(n) (log2(n) + 1) / 2 rounds.
#pragma once

#include "mtp/backend/cuda/choose_tokens.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/log_softmax.cuh"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Shared memory of a block.
struct best_tokens_memory {
  whole_number sizes[256];  // of digits; then the number of tokens that were gathered
  double partial[block_reduction_size];
};

/// Sorts list[0 .. count) so that is_first(a, b) holds for each and the next; all threads call it.
///
/// A bitonic network whose comparisons all point the same way, so that what would stand behind the
/// list, if its length were a power of two, stays there: it need not exist.
template <class First>
__device__ __forceinline__ void sort_in_block(token_t* list, index_t count, const First& is_first) {
  const auto compare = [&](index_t width, auto partner) {
    for (index_t i = threadIdx.x; i < count; i += blockDim.x) {
      const index_t other = partner(i);
      if ((i & width) == 0 && other < count && is_first(list[other], list[i])) {
        const token_t held = list[i];
        list[i] = list[other];
        list[other] = held;
      }
    }
    __syncthreads();
  };
  for (index_t width = 1; width < count; width *= 2) {
    // Runs of `width` are sorted: the second of a pair of them is compared from its end on.
    compare(width, [width](index_t i) { return i ^ (2 * width - 1); });
    for (index_t half = width / 2; half > 0; half /= 2) {
      compare(half, [half](index_t i) { return i ^ half; });
    }
  }
}

template <class S>
__global__ void __launch_bounds__(log_softmax_threads)
    best_tokens_kernel(token_t* tokens,                         // [M, n] stride (token_stride, 1)
                       index_t token_stride,                    //
                       double* __restrict__ log_probabilities,  // [M, n] stride (log_stride, 1)
                       index_t log_stride,                      //
                       index_t n,                               // at least 1
                       accumulate_t<S>* x,                      // [M, V]
                       const S* __restrict__ logits,            // [M, V] stride (stride, 1)
                       index_t stride,
                       index_t V) {
  using A = accumulate_t<S>;
  best_tokens_memory& shared = *dynamic_shared<best_tokens_memory>();
  const index_t m = blockIdx.x;
  const S* const of_row = logits + m * stride;
  token_t* const best = tokens + m * token_stride;
  choice_of_row<A> row{x + m * V, nullptr, V, shared.sizes};
  static_assert(choice_of_row<A>::digits == sizeof(shared.sizes) / sizeof(whole_number));

  row.for_each([&](index_t v) { row.x[v] = static_cast<A>(of_row[v]); });
  __syncthreads();
  row.keep(static_cast<whole_number>(n), [](index_t) { return whole_number{1}; });

  if (threadIdx.x == 0) {
    shared.sizes[0] = 0;
  }
  __syncthreads();
  row.for_each([&](index_t v) {
    if (row.is_kept(v)) {
      best[atomicAdd(shared.sizes, whole_number{1})] = static_cast<token_t>(v);
    }
  });
  __syncthreads();
  const auto found = static_cast<index_t>(shared.sizes[0]);
  sort_in_block(best, found, [&](token_t a, token_t b) {
    return row.x[a] > row.x[b] || (row.x[a] == row.x[b] && a < b);
  });

  const log_softmax<S> logarithm(of_row, V, shared.partial);
  for (index_t j = threadIdx.x; j < n; j += blockDim.x) {
    if (j >= found) {
      best[j] = -1;
    }
    log_probabilities[m * log_stride + j] =
        j < found ? logarithm(best[j]) : static_cast<double>(__uint_as_float(0x7fc00000u));
  }
}

struct cuda_best_tokens_ops {
  template <scalar S>
  static void best_tokens(cuda_context& context,
                          matrix_view<token_t, cuda> tokens,
                          matrix_view<double, cuda> log_probabilities,
                          matrix_view<const S, cuda> logits) {
    const index_t M = logits.extent(0), V = logits.extent(1), n = tokens.extent(1);
    if (n == 0) {
      return;
    }
    const arena::scope scope(context.workspace());
    auto* const x = context.workspace().template take<accumulate_t<S>>(M * V);
    launch(context,
           "best_tokens",
           dim3(extent_of(M, "best_tokens")),
           dim3(log_softmax_threads),
           sizeof(best_tokens_memory),
           best_tokens_kernel<S>,
           tokens.data(),
           tokens.stride(0),
           log_probabilities.data(),
           log_probabilities.stride(0),
           n,
           x,
           logits.data(),
           logits.stride(0),
           V);
  }

  /// Bytes of workspace that best_tokens wants at most for logits [rows, V].
  template <scalar S>
  static constexpr index_t best_tokens_workspace(index_t rows, index_t vocabulary, index_t) {
    return arena_bytes(rows * vocabulary, sizeof(accumulate_t<S>));
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
