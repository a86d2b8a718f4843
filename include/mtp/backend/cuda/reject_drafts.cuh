// Drafts drawn from a head's distribution and verified by rejection, on a GPU. Contracts:
// ops/reject_drafts.hpp.
//
// A block for each row, which finds weights as choose_tokens does. Beside what choose_tokens reads,
// the weights are read twice, and V / threads of them once more by one thread.
#pragma once

#include <cstdint>

#include "mtp/backend/cuda/choose_tokens.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/verify_block.cuh"
#include "mtp/backend/cuda/weigh_row.cuh"
#include "mtp/core/position_bits.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/reject_drafts.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

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
                       index_t offset,
                       draft_unit unit) {
  using A = accumulate_t<S>;
  rejection_memory<A>& shared = *dynamic_shared<rejection_memory<A>>();
  const index_t m = blockIdx.x;
  const mtp::detail::sampling_numbers rule(sequence.integers, sequence.reals, sequence.room);
  const index_t count = sequence.state[sequence_count], position = count + offset + m;
  choice_of_row<A> row{x + m * V, marks + m * V, V, shared.choice.sizes};
  adjust_row(row, logits + m * stride, sequence, rule, position);
  weigh_row(row, shared.choice, rule);
  row.for_each(
      [&](index_t v) { weights[m * weights_stride + v] = static_cast<index_t>(row.marks[v]); });
  const position_bits bits(
      rule.noise_seed, rule.sequence, position, mtp::detail::round_of(unit, count));
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
                          index_t offset,
                          draft_unit unit) {
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
           offset,
           unit);
  }

  template <scalar S>
  static void reject_drafts(cuda_context& context,
                            vector_view<token_t, cuda> predicted,
                            matrix_view<const S, cuda> logits,
                            matrix_view<const index_t, cuda> weights,
                            const sequence_view<cuda>& sequence,
                            draft_unit unit) {
    if (unit == draft_unit::block) {
      verify_block<S>(context, predicted, logits, weights, sequence);
      return;
    }
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
