// How many positions of each sequence the caches hold, as far as the host knows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// A length for each slot, and the longest that it has had: an attention layer takes back
/// `rewindable` positions from there.
class cached_lengths {
 public:
  /// Of `slots` empty sequences.
  cached_lengths(index_t slots, index_t rewindable)
      : rewindable_(rewindable), lengths_(static_cast<std::size_t>(slots)) {}

  /// How many sequences there are.
  index_t slots() const { return static_cast<index_t>(lengths_.size()); }
  /// Positions of the one in a slot. Throws mtp::error for a slot that is not there.
  index_t length(index_t slot) const { return lengths_[number(slot)].length; }

  /// Throws mtp::error unless M more positions fit behind those of a slot into P.
  void check_room(index_t slot, index_t M, index_t P) const {
    check(M <= P - length(slot),
          "decoder: ",
          M,
          " tokens at position ",
          length(slot),
          " do not fit into max_position_embeddings ",
          P);
  }
  /// A new sequence.
  void reset(index_t slot) { lengths_[number(slot)] = {}; }
  /// What slot `to` holds (=) what slot `from` does.
  void copy(index_t to, index_t from) { lengths_[number(to)] = lengths_[number(from)]; }
  /// Rows up to `end` have been run.
  void reach(index_t slot, index_t end) {
    lengths_[number(slot)].longest = (std::max)(lengths_[number(slot)].longest, end);
  }

  /// Whether the layers still have what stands in front of position `length`.
  bool can_take_back(index_t slot, index_t length) const {
    return lengths_[number(slot)].longest - length <= rewindable_;
  }
  /// Throws mtp::error, in the name of a function, unless they have.
  void check_kept(const char* function, index_t slot, index_t length) const {
    const index_t longest = lengths_[number(slot)].longest;
    check(can_take_back(slot, length),
          function,
          ": the attention layer takes back at most ",
          rewindable_,
          " positions, and the sequence has had ",
          longest,
          ": expected a length of at least ",
          longest - rewindable_,
          ", or reset(), got ",
          length);
  }
  /// The sequence has `length` positions. Throws as check_kept; nothing has changed then.
  void set(const char* function, index_t slot, index_t length) {
    check_kept(function, slot, length);
    reach(slot, length);
    lengths_[number(slot)].length = length;
  }

 private:
  struct cached {
    index_t length = 0;
    index_t longest = 0;  // since reset
  };

  std::size_t number(index_t slot) const {
    check(
        slot >= 0 && slot < slots(), "decoder: expected a slot in [0, ", slots(), "), got ", slot);
    return static_cast<std::size_t>(slot);
  }

  index_t rewindable_;
  std::vector<cached> lengths_;
};

}  // namespace mtp::inline MTP_ABI
