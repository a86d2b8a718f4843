// Typical drafts on a GPU. Contracts: ops/accept_typical.hpp.
//
// A block for each row finds weights as reject_drafts does and reads them once more for the
// entropy; then one thread finds the longest path.
#pragma once

#include <cstdint>

#include "mtp/backend/cuda/choose_tokens.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/weigh_row.cuh"
#include "mtp/core/view.hpp"
#include "mtp/ops/accept_typical.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

template <class S, int Block>
__global__ void __launch_bounds__(Block)
    typical_rows_kernel(index_t* __restrict__ accepted,         // [M]
                        const token_t* __restrict__ predicted,  // [M]
                        accumulate_t<S>* x,                     // [M, V]
                        whole_number* marks,                    // [M, V]
                        const S* __restrict__ logits,           // [M, V] stride (stride, 1)
                        index_t stride,
                        index_t V,
                        sampled_sequence sequence,
                        typical_acceptance acceptance) {
  using A = accumulate_t<S>;
  choice_memory<A>& shared = *dynamic_shared<choice_memory<A>>();
  const index_t m = blockIdx.x, M = gridDim.x;
  mtp::detail::sampling_numbers rule(sequence.integers, sequence.reals, sequence.room);
  rule.temperature = acceptance.temperature;
  const index_t depth =
      sequence.parents == nullptr ? m : mtp::detail::depth_in_tree(sequence.parents, m);
  const index_t count = sequence.state[sequence_count];
  choice_of_row<A> row{x + m * V, marks + m * V, V, shared.sizes};
  adjust_row(row, logits + m * stride, sequence, rule, count + depth, m);
  const whole_number sum = weigh_row(row, shared, rule);
  const whole_number surprises = row.sum(
      [&](index_t v) -> whole_number { return mtp::detail::typical_odds::surprise(row.marks[v]); });
  const mtp::detail::typical_odds odds(acceptance, sum, surprises);
  for (index_t c = m + 1 + threadIdx.x; c < M; c += blockDim.x) {
    if (mtp::detail::row_before(sequence.parents, c) == m) {
      const index_t at = count - 1 + c;
      const token_t token = at < sequence.capacity ? sequence.tokens[at] : token_t{-1};
      const bool exists = token >= 0 && token < V;
      accepted[c] = exists && (token == predicted[m] || odds.accepts(row.marks[token])) ? 1 : 0;
    }
  }
}

/// One thread: each row depends on those behind it.
template <int Block>
__global__ void __launch_bounds__(Block)
    typical_path_kernel(token_t* __restrict__ predicted,       // [M]
                        const index_t* __restrict__ accepted,  // [M]
                        index_t* __restrict__ length,          // [M]
                        index_t M,
                        sampled_sequence sequence) {
  mtp::detail::predict_longest(predicted,
                               sequence.parents,
                               sequence.tokens + sequence.state[sequence_count] - 1,
                               accepted,
                               length,
                               M);
}

struct cuda_accept_typical_ops {
  template <scalar S>
  static void accept_typical(cuda_context& context,
                             vector_view<token_t, cuda> predicted,
                             matrix_view<const S, cuda> logits,
                             const sequence_view<cuda>& sequence,
                             const typical_acceptance& acceptance) {
    using policy = choose_tokens_policy;
    const index_t M = logits.extent(0), V = logits.extent(1);
    const bool is_short = V <= policy::short_row;
    const arena::scope scope(context.workspace());
    auto* const x = context.workspace().template take<accumulate_t<S>>(M * V);
    auto* const marks = context.workspace().template take<whole_number>(M * V);
    auto* const accepted = context.workspace().template take<index_t>(M);
    auto* const length = context.workspace().template take<index_t>(M);
    launch(context,
           "accept_typical",
           dim3(extent_of(M, "accept_typical")),
           dim3(is_short ? policy::few : policy::threads),
           sizeof(choice_memory<accumulate_t<S>>),
           is_short ? typical_rows_kernel<S, policy::few> : typical_rows_kernel<S, policy::threads>,
           accepted,
           predicted.data(),
           x,
           marks,
           logits.data(),
           logits.stride(0),
           V,
           sampled_sequence(sequence),
           acceptance);
    launch(context,
           "accept_typical",
           dim3(1),
           dim3(1),
           0,
           typical_path_kernel<1>,
           predicted.data(),
           accepted,
           length,
           M,
           sampled_sequence(sequence));
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
