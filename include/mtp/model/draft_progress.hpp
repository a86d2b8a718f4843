// Which rows of a sequence a drafter has to run.
#pragma once

#include <algorithm>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// How many rows of a depth of one sequence stand in its cache for good. Which rows a draft has to
/// run follows from it; where the host does not know the number of confirmed tokens, a draft runs
/// as many rows as a cycle can have confirmed, and the same rows again give the same bits.
/// `Rewindable` is that of the attention layer whose cache it is.
template <model_config Config, class Backend, index_t Rewindable>
class draft_progress {
 public:
  /// A new sequence: no row has been run.
  void reset() { valid_ = longest_ = 0; }

  /// The rows up to position `end`, not yet run, of a sequence of which the host knows the `count`
  /// confirmed tokens.
  row_range up_to(index_t end, index_t count) {
    const row_range range{valid_ - count, (std::max<index_t>)(end - valid_, 0)};
    valid_ = (std::max)(valid_, end);
    longest_ = (std::max)(longest_, valid_);
    return range;
  }

  /// Of a sequence of `count` confirmed tokens, the last `behind` positions may rest on drafts that
  /// were not accepted: they count as not run. Throws mtp::error where the layer cannot take back
  /// so many; nothing has changed then.
  void rewind(index_t count, index_t behind) {
    const index_t valid = (std::min)(valid_, (std::max<index_t>)(count - behind, 0));
    check(longest_ - valid <= Rewindable,
          "drafter::rewind: expected to take back at most ",
          Rewindable,
          " of ",
          longest_,
          " positions, as the attention layer can, got ",
          longest_ - valid);
    valid_ = valid;
  }

  /// Keeps no rows at or behind `position`, all in front of which rest on confirmed tokens. Returns
  /// the position that rows are missing from: 0 where the layer cannot take back so many.
  index_t keep(index_t position) {
    valid_ = (std::min)(valid_, position);
    if (longest_ - valid_ > Rewindable) {
      reset();
    }
    return valid_;
  }

  /// The rows to run for a draft, the last of them at position count - 2, after a rewind.
  row_range for_draft(const sequence_view<Backend>& sequence, index_t behind) {
    if constexpr (backend_traits<Backend>::is_host_memory) {
      const index_t count = sequence.state(sequence_count);
      rewind(count, behind);
      return up_to(count - 1, count);
    } else {
      return {-Config.prediction.depth - 2, Config.prediction.depth + 1};
    }
  }

  /// The rows to run of depth k for a draft of a tree, all of which rest on confirmed tokens: the
  /// last of them, at position count - 1 - k, is the first row of the tree.
  row_range for_tree(const sequence_view<Backend>& sequence, index_t k) {
    if constexpr (backend_traits<Backend>::is_host_memory) {
      const index_t count = sequence.state(sequence_count);
      rewind(count, k + 1);
      return up_to(count - k, count);
    } else {
      return {-Config.prediction.depth - 1 - k, Config.prediction.depth + 1};
    }
  }

 private:
  index_t valid_ = 0;
  index_t longest_ = 0;  // that valid_ has been since reset
};

}  // namespace mtp::inline MTP_ABI
