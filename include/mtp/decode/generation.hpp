// What generation gives.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// Why generation ended.
enum class end_reason {
  length,     ///< max_new_tokens
  stop,       ///< a stop token or a stop sequence; it is part of the result
  context,    ///< max_position_embeddings
  callback,   ///< on_token returned false, or a callback has thrown
  cancelled,  ///< batch_generator::cancel
};

/// Seconds that parts of cycles took, on a backend whose operations end when they return; zeros
/// elsewhere.
struct cycle_seconds {
  double draft = 0;   ///< drafting
  double verify = 0;  ///< the pass of the trunk
  double accept = 0;  ///< choosing tokens and accepting drafts

  /// Of all parts.
  double total() const { return draft + verify + accept; }
};

/// What generation gave.
template <int Depth>
struct generation {
  std::vector<token_t> tokens;  ///< what was generated, prompt not included
  /// If asked for, of each token, in nats: log softmax of the model's logits, before any option.
  std::vector<double> log_probabilities;
  /// If asked for, of each position, the n likeliest tokens; see the operation best_tokens.
  std::vector<token_t> best_tokens;
  std::vector<double> best_log_probabilities;  ///< of these, as log_probabilities  [tokens, n]
  end_reason end = end_reason::length;         ///< why it ended
  index_t forward_passes = 0;                  ///< of the trunk, prompt not included
  std::array<index_t, static_cast<std::size_t>(Depth)> drafted{};   ///< drafts at each position
  std::array<index_t, static_cast<std::size_t>(Depth)> accepted{};  ///< of these, accepted
  std::array<index_t, static_cast<std::size_t>(Depth) + 1>
      cycles{};                ///< that drafted 0, 1, .. D tokens
  index_t tree_cycles = 0;     ///< of these, that drafted a tree
  index_t tree_drafts = 0;     ///< drafts of all trees
  index_t other_branches = 0;  ///< trees of which another branch than the first was accepted
  index_t reused = 0;          ///< positions of the prompt that were in the caches already
  double prefill_seconds = 0;  ///< time for the prompt
  double decode_seconds = 0;   ///< time for what was generated

  cycle_seconds seconds{};  ///< where decode_seconds went; of a batch, this sequence's share

  /// Share of drafts at position k (0 is the first) that were accepted, among all cycles.
  double acceptance(std::size_t k) const {
    return drafted[k] > 0 ? static_cast<double>(accepted[k]) / static_cast<double>(drafted[k])
                          : 0.0;
  }
  /// Generated tokens per pass of the trunk: 1 for plain decoding, at most D + 1.
  double tokens_per_forward() const {
    return forward_passes > 0
               ? static_cast<double>(tokens.size()) / static_cast<double>(forward_passes)
               : 0.0;
  }
};

}  // namespace mtp::inline MTP_ABI
