// How far the depths of a head are behind the text, where not every cycle drafts.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "mtp/model/row_pass.hpp"

namespace mtp::inline MTP_ABI {

/// What the host knows of the head's depths in each slot. A depth that drafts is up to date; one
/// that does not falls behind, row by row, and can be brought up to date as long as the head keeps
/// what the trunk gave it: see row_limits::ring.
template <model_config Config, class Backend>
class head_catch_up {
 public:
  static constexpr index_t D = Config.prediction.depth;  ///< depths

  /// For the sequences of `slots` slots.
  explicit head_catch_up(index_t slots) : seen_(static_cast<std::size_t>(slots)) {}

  /// A sequence in a slot, all of whose `count` tokens have been read by the head.
  void begin(index_t slot, index_t count) { at(slot).fill(count); }

  /// The first `depth` depths have drafted behind `count` tokens.
  void drafted(index_t slot, index_t depth, index_t count) {
    std::fill_n(at(slot).begin(), depth, count);
  }

  /// The depths, from the first on, that can still be brought up to date.
  index_t usable(index_t slot, index_t count) const {
    index_t depth = 0;
    while (depth < D && behind(slot, depth, count) <= most_behind) {
      ++depth;
    }
    return depth;
  }

  /// Rows that the first `depth` depths have to run in all, beyond those of any draft.
  index_t missing(index_t slot, index_t depth, index_t count) const {
    index_t rows = 0;
    for (index_t k = 0; k < depth; ++k) {
      rows += (std::max<index_t>)(behind(slot, k, count) - limits::verification, 0);
    }
    return rows;
  }

  /// Brings the first `depth` depths up to date with all but the last of `count` tokens, a piece at
  /// a time: advance(seen) runs what is missing in front of position `seen`.
  template <class Advance>
  void bring(index_t slot, index_t depth, index_t count, const Advance& advance) {
    const auto begin = at(slot).begin();
    for (index_t seen = *std::min_element(begin, begin + depth); seen < count - 1;) {
      seen = (std::min)(seen + limits::step - limits::verification, count - 1);
      advance(seen);
    }
    drafted(slot, depth, count);
  }

 private:
  using limits = row_limits<Config, Backend>;
  using tokens_seen = std::array<index_t, static_cast<std::size_t>(D)>;
  static constexpr index_t most_behind = limits::ring - limits::step - limits::verification;

  tokens_seen& at(index_t slot) { return seen_[static_cast<std::size_t>(slot)]; }
  /// Tokens of `count` that depth k + 1 has not seen.
  index_t behind(index_t slot, index_t k, index_t count) const {
    return count - seen_[static_cast<std::size_t>(slot)][static_cast<std::size_t>(k)];
  }

  std::vector<tokens_seen> seen_;  // by slot
};

}  // namespace mtp::inline MTP_ABI
