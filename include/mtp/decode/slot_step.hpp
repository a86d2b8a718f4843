// What a cycle of decoding does with a sequence, and what it did.
#pragma once

#include <optional>

#include "mtp/core/draft_tree.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/ops/accept_typical.hpp"
#include "mtp/ops/reject_drafts.hpp"

namespace mtp::inline MTP_ABI {

/// What decides about tokens.
enum class token_choice {
  most_likely,                 ///< the largest logit
  by_rule,                     ///< the rule of the sequence, also about drafts
  by_rule_with_likely_drafts,  ///< the rule; about drafts the largest logit
  by_rejection,                ///< the rule; drafts are drawn by it and verified by reject_drafts
  by_block_rejection,          ///< the same, with draft_unit::block
};

/// What a cycle does with the sequence in one slot.
struct slot_step {
  index_t slot = 0;    ///< where
  index_t drafts = 0;  ///< tokens to draft, at most D; 0: none. Of a tree: positions
  token_choice chooses = token_choice::most_likely;  ///< what decides
  bool log_probabilities = false;                    ///< whether predictions get them
  bool keeps_states = false;                         ///< whether the drafter may be asked later on
  draft_tree tree{};                                 ///< of drafts; none: a chain
  std::optional<typical_acceptance> typical{};       ///< accepts other drafts than those chosen

  /// Rows that it verifies.
  constexpr index_t rows() const { return tree.exists() ? tree.rows() : drafts + 1; }

  /// Whether drafts are drawn from the head's distribution and verified by reject_drafts.
  constexpr bool rejects() const {
    return chooses == token_choice::by_rejection || chooses == token_choice::by_block_rejection;
  }
  /// What is verified then.
  constexpr draft_unit unit() const {
    return chooses == token_choice::by_block_rejection ? draft_unit::block : draft_unit::token;
  }

  /// Equal in all.
  friend constexpr bool operator==(const slot_step&, const slot_step&) = default;
};

/// What a cycle did for one sequence.
struct step_outcome {
  index_t accepted = 0;                ///< drafts; -1: the context was full, nothing was done
  index_t first_row = 0;               ///< of its rows among those of the cycle
  const token_t* predicted = nullptr;  ///< behind each row  [rows]
  const double* log_probabilities = nullptr;  ///< of these, if asked for  [rows]
  const index_t* path = nullptr;  ///< places of the accepted rows of a tree; none: chain

  /// The row that the token behind j accepted drafts was predicted by.
  index_t row(index_t j) const { return path == nullptr ? j : path[j] - path[0]; }
};

}  // namespace mtp::inline MTP_ABI
