// Drafts drawn from a head's distribution and verified by rejection, on a GPU. Contracts:
// ops/reject_drafts.hpp.
//
// A block for each row, which finds weights as choose_tokens does. A token is drawn from whole
// numbers: each thread adds up a piece of the row, one thread finds the piece and then the token,
// so that the result is that of adding up in order. Beside what choose_tokens reads, the weights
// are read twice, and V / threads of them once more by one thread.
#pragma once

#include <cstdint>

#include "mtp/backend/cuda/choose_tokens.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/core/position_bits.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/reject_drafts.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

using mtp::detail::weight_product;

/// Shared memory of a block.
template <class A>
struct rejection_memory {
  choice_memory<A> choice;
  weight_product pieces[choose_tokens_policy::threads];
};

/// marks = the weights of what the rule keeps, 0 for the others. Returns their sum; every thread
/// gets it, and may read all weights afterwards.
template <class A>
__device__ __forceinline__ whole_number weigh_row(choice_of_row<A>& row,
                                                  choice_memory<A>& shared,
                                                  const mtp::detail::sampling_numbers& rule) {
  const largest<A> first = largest_of(row, shared);
  const auto weight = [&](index_t v) -> whole_number {
    return mtp::detail::probability_weight(
        mtp::detail::scaled_logit(row.x[v], first.value, rule.temperature));
  };
  const bool is_single = first.at < 0 || rule.temperature == 0;
  const whole_number least = is_single ? 0 : keep_by_rule(row, rule, weight);
  return row.sum([&](index_t v) {
    const bool is_kept = is_single ? v == first.at : row.is_kept(v);
    const whole_number own = is_kept ? weight(v) : 0;
    return row.marks[v] = own >= least ? own : 0;
  });
}

/// The first token up to which more than bits / 2^64 of the sum of weights lies; -1 for a sum of 0.
/// Thread 0 gets it. Thread t has tokens [t E, (t + 1) E).
template <class Weight>
__device__ __forceinline__ token_t token_at_share(index_t V,
                                                  std::uint64_t bits,
                                                  weight_product* pieces,  // [blockDim.x], shared
                                                  const Weight& weight) {
  const index_t threads = blockDim.x, each = (V + threads - 1) / threads;
  const auto end_of = [&](index_t thread) {
    return (thread + 1) * each < V ? (thread + 1) * each : V;
  };
  weight_product own = 0;
  for (index_t v = threadIdx.x * each; v < end_of(threadIdx.x); ++v) {
    own += weight(v);
  }
  pieces[threadIdx.x] = own;
  __syncthreads();
  token_t found = -1;
  if (threadIdx.x == 0) {
    weight_product sum = 0;
    for (index_t t = 0; t < threads; ++t) {
      sum += pieces[t];
    }
    weight_product rest = mtp::detail::share_of(bits, sum);
    index_t piece = 0;
    while (piece < threads && rest >= pieces[piece]) {
      rest -= pieces[piece++];
    }
    for (index_t v = piece * each; piece < threads && found < 0 && v < end_of(piece); ++v) {
      const weight_product of_token = weight(v);
      found = rest < of_token ? static_cast<token_t>(v) : -1;
      rest -= found < 0 ? of_token : 0;
    }
  }
  return found;
}

template <class S, int Block>
__global__ void __launch_bounds__(Block)
    draw_drafts_kernel(token_t* __restrict__ drafts,   // [M]
                       index_t* __restrict__ weights,  // [M, V] stride (weights_stride, 1)
                       index_t weights_stride,
                       accumulate_t<S>* x,            // [M, V]
                       whole_number* marks,           // [M, V]
                       const S* __restrict__ logits,  // [M, V] stride (stride, 1)
                       index_t stride,
                       index_t V,
                       sampled_sequence sequence,
                       index_t offset) {
  using A = accumulate_t<S>;
  rejection_memory<A>& shared = *dynamic_shared<rejection_memory<A>>();
  const index_t m = blockIdx.x;
  const mtp::detail::sampling_numbers rule(sequence.integers, sequence.reals, sequence.room);
  const index_t position = sequence.state[sequence_count] + offset + m;
  choice_of_row<A> row{x + m * V, marks + m * V, V, shared.choice.sizes};
  adjust_row(row, logits + m * stride, sequence, rule, position);
  weigh_row(row, shared.choice, rule);
  row.for_each(
      [&](index_t v) { weights[m * weights_stride + v] = static_cast<index_t>(row.marks[v]); });
  const position_bits bits(rule.noise_seed, rule.sequence, position);
  const token_t drawn = token_at_share(
      V, bits(position_bits::draft), shared.pieces, [&](index_t v) { return row.marks[v]; });
  if (threadIdx.x == 0) {
    drafts[m] = drawn;
  }
}

template <class S, int Block>
__global__ void __launch_bounds__(Block)
    reject_drafts_kernel(token_t* __restrict__ predicted,  // [n + 1]
                         accumulate_t<S>* x,               // [n + 1, V]
                         whole_number* marks,              // [n + 1, V]
                         const S* __restrict__ logits,     // [n + 1, V] stride (stride, 1)
                         index_t stride,
                         index_t V,
                         const index_t* __restrict__ weights,  // [n, V] stride (weights_stride, 1)
                         index_t weights_stride,
                         sampled_sequence sequence) {
  using A = accumulate_t<S>;
  rejection_memory<A>& shared = *dynamic_shared<rejection_memory<A>>();
  const index_t m = blockIdx.x, n = static_cast<index_t>(gridDim.x) - 1;
  const mtp::detail::sampling_numbers rule(sequence.integers, sequence.reals, sequence.room);
  const index_t position = sequence.state[sequence_count] + m;
  choice_of_row<A> row{x + m * V, marks + m * V, V, shared.choice.sizes};
  adjust_row(row, logits + m * stride, sequence, rule, position);
  const whole_number sum = weigh_row(row, shared.choice, rule);

  const index_t* const head = m < n ? weights + m * weights_stride : nullptr;
  const auto head_of = [&](index_t v) {
    return head != nullptr ? static_cast<whole_number>(head[v]) : 0;
  };
  const whole_number head_sum = row.sum(head_of);
  const token_t token =
      head != nullptr && position < sequence.capacity ? sequence.tokens[position] : -1;
  const bool exists = token >= 0 && token < V;
  const mtp::detail::drafted_token draft{
      exists ? token : -1, exists ? head_of(token) : 0, head_sum};
  const mtp::detail::draft_odds odds{sum, draft.head_sum()};
  const auto weight_of = [&](index_t v) -> whole_number {
    return draft.head_weight(v, head_of(v));
  };
  const position_bits bits(rule.noise_seed, rule.sequence, position);
  if (exists && odds.accepts(bits(position_bits::accept), row.marks[token], weight_of(token))) {
    if (threadIdx.x == 0) {
      predicted[m] = token;
    }
    return;
  }
  const token_t drawn =
      token_at_share(V, bits(position_bits::residual), shared.pieces, [&](index_t v) {
        return odds.residual(row.marks[v], weight_of(v));
      });
  if (threadIdx.x == 0) {
    predicted[m] = drawn;
  }
}

struct cuda_reject_drafts_ops {
  template <scalar S>
  static void draw_drafts(cuda_context& context,
                          vector_view<token_t, cuda> drafts,
                          matrix_view<index_t, cuda> weights,
                          matrix_view<const S, cuda> logits,
                          const sequence_view<cuda>& sequence,
                          index_t offset) {
    const index_t M = logits.extent(0), V = logits.extent(1);
    const bool is_short = V <= policy::short_row;
    const arena::scope scope(context.workspace());
    auto* const x = context.workspace().template take<accumulate_t<S>>(M * V);
    auto* const marks = context.workspace().template take<whole_number>(M * V);
    launch(context,
           "draw_drafts",
           dim3(extent_of(M, "draw_drafts")),
           dim3(is_short ? policy::few : policy::threads),
           sizeof(rejection_memory<accumulate_t<S>>),
           is_short ? draw_drafts_kernel<S, policy::few> : draw_drafts_kernel<S, policy::threads>,
           drafts.data(),
           weights.data(),
           weights.stride(0),
           x,
           marks,
           logits.data(),
           logits.stride(0),
           V,
           sampled_sequence(sequence),
           offset);
  }

  template <scalar S>
  static void reject_drafts(cuda_context& context,
                            vector_view<token_t, cuda> predicted,
                            matrix_view<const S, cuda> logits,
                            matrix_view<const index_t, cuda> weights,
                            const sequence_view<cuda>& sequence) {
    const index_t M = logits.extent(0), V = logits.extent(1);
    const bool is_short = V <= policy::short_row;
    const arena::scope scope(context.workspace());
    auto* const x = context.workspace().template take<accumulate_t<S>>(M * V);
    auto* const marks = context.workspace().template take<whole_number>(M * V);
    launch(
        context,
        "reject_drafts",
        dim3(extent_of(M, "reject_drafts")),
        dim3(is_short ? policy::few : policy::threads),
        sizeof(rejection_memory<accumulate_t<S>>),
        is_short ? reject_drafts_kernel<S, policy::few> : reject_drafts_kernel<S, policy::threads>,
        predicted.data(),
        x,
        marks,
        logits.data(),
        logits.stride(0),
        V,
        weights.data(),
        weights.stride(0),
        sampled_sequence(sequence));
  }

 private:
  using policy = choose_tokens_policy;
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
