// The pairs of tokens that become one, found by a hash.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::io {

/// Two tokens that become one.
struct token_merge {
  token_t left = 0;        ///< in front
  token_t right = 0;       ///< behind it
  token_t result = 0;      ///< the bytes of both
  std::uint32_t rank = 0;  ///< the lowest goes first; of equal ones the leftmost in the text
};

namespace detail {

/// What a pair of neighbours becomes, and how soon.
struct merge_step {
  static constexpr std::uint32_t no_rank = 0xffffffff;
  std::uint32_t rank = no_rank;  // none: it stays a pair
  token_t result = 0;
};

/// A hash table with linear probing, at most half full. Tokens are not negative.
class merge_table {
 public:
  /// Room for so many pairs.
  explicit merge_table(std::size_t pairs)
      : entries_(std::bit_ceil(2 * pairs + 2)), mask_(entries_.size() - 1) {}

  /// False, and nothing else, if the pair is there already.
  bool add(const token_merge& merge) {
    const std::uint64_t key = key_of(merge.left, merge.right);
    std::size_t place = hash(key) & mask_;
    for (; entries_[place].key != empty; place = (place + 1) & mask_) {
      if (entries_[place].key == key) return false;
    }
    entries_[place] = {key, {merge.rank, merge.result}};
    return true;
  }

  /// What becomes of a pair.
  merge_step find(token_t left, token_t right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t place = hash(key) & mask_;; place = (place + 1) & mask_) {
      const entry& each = entries_[place];
      if (each.key == key) return each.step;
      if (each.key == empty) return {};
    }
  }

 private:
  static constexpr std::uint64_t empty = ~std::uint64_t{0};

  struct entry {
    std::uint64_t key = empty;
    merge_step step;
  };

  static std::uint64_t key_of(token_t left, token_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }

  /// The finalizer of SplitMix64 (Steele, Lea and Flood 2014).
  static std::size_t hash(std::uint64_t key) {
    key = (key ^ key >> 30) * 0xbf58476d1ce4e5b9u;
    key = (key ^ key >> 27) * 0x94d049bb133111ebu;
    return static_cast<std::size_t>(key ^ key >> 31);
  }

  std::vector<entry> entries_;
  std::size_t mask_;
};

}  // namespace detail
}  // namespace mtp::inline MTP_ABI::io
