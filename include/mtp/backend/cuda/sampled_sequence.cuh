// What kernels that choose tokens read of a sequence.
#pragma once

#include "mtp/backend/cuda/context.cuh"
#include "mtp/core/scalar.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// The part of a sequence and its rule that a kernel reads.
struct sampled_sequence {
  const token_t* tokens;  // [capacity]
  index_t capacity;
  const index_t* state;        // [sequence_states]
  const index_t* integers;     // [sampling_integers]
  const double* reals;         // [sampling_reals]
  const token_t* stop_tokens;  // [room]
  index_t room;
  const float* bias;       // [V]
  const index_t* parents;  // of the rows of a tree; null: none

  explicit sampled_sequence(const sequence_view<cuda>& from)
      : tokens(from.tokens.data()),
        capacity(from.tokens.extent(0)),
        state(from.state.data()),
        integers(from.rule.integers.data()),
        reals(from.rule.reals.data()),
        stop_tokens(from.rule.stop_tokens.data()),
        room(from.rule.stop_tokens.extent(0)),
        bias(from.rule.bias.data()),
        parents(from.tree.parents.data()) {}
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
