// Which rows of which sequences a pass takes.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <span>

#include "mtp/core/cache_view.hpp"
#include "mtp/core/draft_tree.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/reject_drafts.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// Sequences that are decoded together at most.
inline constexpr index_t max_slots = 64;

/// Rows of a sequence, by where they stand behind its confirmed tokens: positions count + offset ..
struct row_range {
  index_t offset = 0;  ///< of the first row: 0 is the first position that is not confirmed
  index_t rows = 0;    ///< how many rows

  /// Equal offsets and numbers.
  friend constexpr bool operator==(row_range, row_range) = default;
};

/// Rows of a sequence that a pass takes.
template <class Backend>
struct sequence_rows {
  sequence_view<Backend> sequence;  ///< whose
  row_range range;                  ///< which
};

/// A sequence whose next tokens are drafted.
template <class Backend>
struct draft_task {
  sequence_view<Backend> sequence;  ///< whose
  index_t depth = 0;                ///< how many, at least 1
  /// Where there is one, called before the rule chooses the token at position count + ahead, or,
  /// with a shape, the one behind row `ahead` of the tree: what stands in front of it is in the
  /// sequence's memory, and the rule's bias may be changed.
  const std::function<void(index_t ahead)>* before_choice = nullptr;
  /// Where the weights go that drafts are drawn from, if they are to be verified by rejection, see
  /// reject_drafts; none: drafts are chosen as the model's tokens are.  [depth, V]
  matrix_view<index_t, Backend> weights{nullptr, dims<2>{0, 0}};
  draft_unit unit = draft_unit::token;  ///< of their verification, where there are weights
  /// Where a tree is drafted: W candidates of each position, the best first, and the logarithms of
  /// their probabilities, see grow_tree; none: a chain.  [depth, W]
  matrix_view<token_t, Backend> candidates{nullptr, dims<2>{0, 0}};
  matrix_view<double, Backend> candidate_log_probabilities{nullptr, dims<2>{0, 0}};  ///< of these
  draft_tree
      shape{};  ///< of the tree, for drafters that put its drafts into the sequence themselves

  /// Whether a tree is drafted.
  bool drafts_tree() const { return candidates.data() != nullptr; }
};

/// The runs of a pass, at most one for each sequence.
class pass_rows {
 public:
  /// Adds rows of the sequence in a slot, with their parents if they are a tree.
  void add(index_t slot, row_range range, const index_t* parents = nullptr) {
    check(count_ < runs_.size(), "pass_rows: expected at most ", max_slots, " sequences");
    runs_[count_] = {slot, range.rows, parents};
    has_trees_ = has_trees_ || parents != nullptr;
    ranges_[count_] = range;
    first_[count_] = rows_;
    rows_ += range.rows;
    ++count_;
  }

  /// What layers are given.
  std::span<const row_run> runs() const { return {runs_.data(), count_}; }
  /// Whether any of them is a tree.
  bool has_trees() const { return has_trees_; }
  /// Rows of all runs.
  index_t rows() const { return rows_; }
  /// Where the rows of a run stand in their sequence.
  row_range range(std::size_t run) const { return ranges_[run]; }
  /// The part of `all` that a run has; all's dimension 0 is the rows of the pass.
  template <class View>
  auto part(std::size_t run, const View& all) const {
    return all.slice(0, first_[run], runs_[run].rows);
  }
  /// The same rows of the same sequences.
  friend bool operator==(const pass_rows& a, const pass_rows& b) {
    bool equal = a.count_ == b.count_;
    for (std::size_t i = 0; equal && i < a.count_; ++i) {
      equal = a.runs_[i].slot == b.runs_[i].slot && a.ranges_[i] == b.ranges_[i] &&
              a.runs_[i].parents == b.runs_[i].parents;
    }
    return equal;
  }
  /// The last of these rows, alone.
  template <class View>
  auto last(std::size_t run, const View& all) const {
    return all.slice(0, first_[run] + runs_[run].rows - 1, 1);
  }

 private:
  std::array<row_run, max_slots> runs_{};
  std::array<row_range, max_slots> ranges_{};
  std::array<index_t, max_slots> first_{};
  std::size_t count_ = 0;
  index_t rows_ = 0;
  bool has_trees_ = false;
};

}  // namespace mtp::inline MTP_ABI
