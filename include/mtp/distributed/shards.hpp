// A flat array cut into one contiguous range for each rank.
#pragma once

#include <algorithm>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// `count` elements cut into `ranks` contiguous ranges of equal length, whose boundaries are
/// multiples of `unit`. The last ranges may be shorter or empty:
///
///     length = ceil(ceil(count / unit) / ranks) unit
///     rank r has the elements min(r length, count) to min((r + 1) length, count)
class shards {
 public:
  /// Throws mtp::error for a negative count, and for fewer than one rank or element in a unit.
  constexpr shards(index_t count, int ranks, index_t unit = 1) : count_(count), ranks_(ranks) {
    check(count >= 0, "shards: a count of at least 0 was expected, but ", count, " came");
    check(ranks >= 1, "shards: at least 1 rank was expected, but ", ranks, " came");
    check(unit >= 1, "shards: a unit of at least 1 element was expected, but ", unit, " came");
    const index_t units = count / unit + (count % unit != 0 ? 1 : 0);
    const index_t of_each = units / ranks + (units % ranks != 0 ? 1 : 0);
    length_ = of_each > count / unit ? count : of_each * unit;
  }

  /// First element of a rank.
  constexpr index_t begin(int rank) const {
    check(rank >= 0 && rank < ranks_,
          "shards: a rank below ",
          ranks_,
          " was expected, but ",
          rank,
          " came");
    return start_of(rank);
  }
  /// The element behind a rank's last one.
  constexpr index_t end(int rank) const {
    check(rank >= 0 && rank < ranks_,
          "shards: a rank below ",
          ranks_,
          " was expected, but ",
          rank,
          " came");
    return start_of(rank + 1);
  }
  /// Elements of a rank.
  constexpr index_t size(int rank) const { return end(rank) - begin(rank); }
  /// Elements of the longest range, which is that of rank 0.
  constexpr index_t longest() const { return length_; }
  /// Elements of all ranks.
  constexpr index_t count() const { return count_; }
  /// Number of ranges.
  constexpr int ranks() const { return ranks_; }

  /// Equal if all ranges are.
  friend constexpr bool operator==(const shards&, const shards&) = default;

 private:
  constexpr index_t start_of(int rank) const {
    if (length_ == 0 || rank > count_ / length_) return count_;
    return rank * length_;
  }

  index_t count_;
  int ranks_;
  index_t length_ = 0;
};

}  // namespace mtp::inline MTP_ABI
