// The weights of a row of logits under a sampling rule, and a token drawn by such weights, on a
// GPU.
//
// A token is drawn from whole numbers: each thread adds up a piece of the row, one thread finds the
// piece and then the token, so that the result is that of adding up in order.
#pragma once

#include <cstdint>

#include "mtp/backend/cuda/choose_tokens.cuh"
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

}  // namespace mtp::inline MTP_ABI::cuda_detail
