// Drafts verified as a block, on a GPU: reject_drafts with draft_unit::block. Contract:
// ops/reject_drafts.hpp.
//
// Three kernels, each with a block for every row: weights and their sums, sums of residuals, and
// then, when all of these are known, what to predict. How far drafts reach is computed anew by
// every block, from two weights and two sums of each row.
#pragma once

#include <cstdint>

#include "mtp/backend/cuda/choose_tokens.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/weigh_row.cuh"
#include "mtp/core/position_bits.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/reject_drafts.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// The rows of a block of drafts.
struct block_rows {
  using odds = mtp::detail::block_odds;

  whole_number* model;      // [n + 1, V]
  whole_number* sums;       // [n + 1]
  whole_number* head_sums;  // [n + 1]
  whole_number* residuals;  // [n + 1]
  const index_t* weights;   // [n, V] stride (stride, 1)
  index_t stride;
  index_t n, V;
  sampled_sequence sequence;

  __device__ whole_number head_weight(index_t m, index_t v) const {
    return m < n ? static_cast<whole_number>(weights[m * stride + v]) : 0;
  }
  __device__ mtp::detail::drafted_token draft(index_t m) const {
    const index_t position = sequence.state[sequence_count] + m;
    const token_t token = m < n && position < sequence.capacity ? sequence.tokens[position] : -1;
    if (token < 0 || token >= V) {
      return {-1, 0, 0};
    }
    return {token, head_weight(m, token), head_sums[m]};
  }
  __device__ double p(index_t m, index_t v) const { return odds::share(model[m * V + v], sums[m]); }
  __device__ double q(index_t m, const mtp::detail::drafted_token& draft, index_t v) const {
    return odds::share(draft.head_weight(v, head_weight(m, v)), draft.head_sum());
  }
  /// r of a place that drafts reach; -1 for others.
  __device__ double reach(index_t place) const {
    double r = 1;
    for (index_t m = 0; m < place; ++m) {
      const auto own = draft(m);
      if (own.token < 0) {
        return -1;
      }
      r = odds::next(r, p(m, own.token), q(m, own, own.token));
    }
    return r;
  }
  __device__ whole_number residual(index_t m,
                                   double r,
                                   const mtp::detail::drafted_token& draft,
                                   index_t v) const {
    return odds::residual(r, p(m, v), q(m, draft, v));
  }
};

template <class S, int Block>
__global__ void __launch_bounds__(Block)
    weigh_block_kernel(block_rows rows,
                       accumulate_t<S>* x,            // [n + 1, V]
                       const S* __restrict__ logits,  // [n + 1, V] stride (stride, 1)
                       index_t stride) {
  using A = accumulate_t<S>;
  choice_memory<A>& shared = *dynamic_shared<choice_memory<A>>();
  const index_t m = blockIdx.x, V = rows.V;
  const auto& sequence = rows.sequence;
  const mtp::detail::sampling_numbers rule(sequence.integers, sequence.reals, sequence.room);
  choice_of_row<A> row{x + m * V, rows.model + m * V, V, shared.sizes};
  adjust_row(row, logits + m * stride, sequence, rule, sequence.state[sequence_count] + m);
  const whole_number sum = weigh_row(row, shared, rule);
  const whole_number head_sum = row.sum([&](index_t v) { return rows.head_weight(m, v); });
  if (threadIdx.x == 0) {
    rows.sums[m] = sum;
    rows.head_sums[m] = head_sum;
  }
}

template <class A, int Block>
__global__ void __launch_bounds__(Block) block_residuals_kernel(block_rows rows) {
  choice_memory<A>& shared = *dynamic_shared<choice_memory<A>>();
  const index_t m = blockIdx.x;
  const choice_of_row<A> row{nullptr, nullptr, rows.V, shared.sizes};
  const auto draft = rows.draft(m);
  const double r = rows.reach(m);
  const bool counts = r >= 0 && draft.token >= 0;
  const whole_number sum = row.sum(
      [&](index_t v) -> whole_number { return counts ? rows.residual(m, r, draft, v) : 0; });
  if (threadIdx.x == 0) {
    rows.residuals[m] = sum;
  }
}

template <class A, int Block>
__global__ void __launch_bounds__(Block)
    verify_block_kernel(token_t* __restrict__ predicted,  // [n + 1]
                        block_rows rows) {
  using odds = mtp::detail::block_odds;
  rejection_memory<A>& shared = *dynamic_shared<rejection_memory<A>>();
  const index_t m = blockIdx.x;
  const auto& sequence = rows.sequence;
  const mtp::detail::sampling_numbers rule(sequence.integers, sequence.reals, sequence.room);
  const auto bits_of = [&](index_t place, position_bits::purpose what) {
    const index_t count = sequence.state[sequence_count];
    return position_bits(rule.noise_seed, rule.sequence, count + place, count)(what);
  };
  index_t n = 0;  // drafts that there are
  while (n < rows.n && rows.draft(n).token >= 0) {
    ++n;
  }
  index_t accepted = n;
  while (accepted > 0) {
    const double r = rows.reach(accepted);
    const double h = accepted == n ? r : odds::keeps(r, rows.residuals[accepted]);
    if (odds::accepts(bits_of(accepted - 1, position_bits::accept), h)) {
      break;
    }
    --accepted;
  }
  const auto draft = rows.draft(m);
  if (m < accepted) {
    if (threadIdx.x == 0) {
      predicted[m] = draft.token;
    }
    return;
  }
  const bool has_residual = m == accepted && m < n && rows.residuals[m] > 0;
  const double r = has_residual ? rows.reach(m) : 1;
  const token_t drawn = token_at_share(
      rows.V, bits_of(m, position_bits::residual), shared.pieces, [&](index_t v) -> whole_number {
        return has_residual ? rows.residual(m, r, draft, v) : rows.model[m * rows.V + v];
      });
  if (threadIdx.x == 0) {
    predicted[m] = drawn;
  }
}

/// reject_drafts with draft_unit::block.
template <scalar S>
void verify_block(cuda_context& context,
                  vector_view<token_t, cuda> predicted,
                  matrix_view<const S, cuda> logits,
                  matrix_view<const index_t, cuda> weights,
                  const sequence_view<cuda>& sequence) {
  using A = accumulate_t<S>;
  using policy = choose_tokens_policy;
  const index_t M = logits.extent(0), V = logits.extent(1);
  const bool is_short = V <= policy::short_row;
  const dim3 grid(extent_of(M, "reject_drafts")), block(is_short ? policy::few : policy::threads);
  const arena::scope scope(context.workspace());
  const auto take = [&](index_t count) {
    return context.workspace().template take<whole_number>(count);
  };
  auto* const x = context.workspace().template take<A>(M * V);
  const block_rows rows{take(M * V),
                        take(M),
                        take(M),
                        take(M),
                        weights.data(),
                        weights.stride(0),
                        M - 1,
                        V,
                        sampled_sequence(sequence)};
  launch(context,
         "reject_drafts",
         grid,
         block,
         sizeof(choice_memory<A>),
         is_short ? weigh_block_kernel<S, policy::few> : weigh_block_kernel<S, policy::threads>,
         rows,
         x,
         logits.data(),
         logits.stride(0));
  launch(context,
         "reject_drafts",
         grid,
         block,
         sizeof(choice_memory<A>),
         is_short ? block_residuals_kernel<A, policy::few>
                  : block_residuals_kernel<A, policy::threads>,
         rows);
  launch(context,
         "reject_drafts",
         grid,
         block,
         sizeof(rejection_memory<A>),
         is_short ? verify_block_kernel<A, policy::few> : verify_block_kernel<A, policy::threads>,
         predicted.data(),
         rows);
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
