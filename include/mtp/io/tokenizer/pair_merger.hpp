// Merges the bytes of a piece to tokens, with the memory for it: words that were seen, and rows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "mtp/io/tokenizer/merge_table.hpp"

namespace mtp::inline MTP_ABI::io {

/// The tokens of short pieces that were seen, each in the place of its hash: what comes later
/// replaces what was there. Nothing depends on what it holds but time.
class word_cache {
 public:
  /// 2^`bits` words of 64 bytes each.
  explicit word_cache(int bits = 14) : words_(std::size_t{1} << bits), shift_(64 - bits) {}

  /// The tokens of a piece, or none if it is not there.
  std::span<const token_t> find(std::string_view piece) const {
    if (piece.size() > most_bytes) return {};
    const word& each = words_[place_of(piece)];
    if (each.length != piece.size() || std::memcmp(each.bytes, piece.data(), piece.size()) != 0) {
      return {};
    }
    return {each.tokens, each.count};
  }

  /// Remembers the tokens of a piece, if there is room for as many.
  void put(std::string_view piece, std::span<const token_t> tokens) {
    if (piece.size() > most_bytes || tokens.empty() || tokens.size() > most_tokens) return;
    word& each = words_[place_of(piece)];
    std::memcpy(each.bytes, piece.data(), piece.size());
    std::copy(tokens.begin(), tokens.end(), each.tokens);
    each.length = static_cast<std::uint8_t>(piece.size());
    each.count = static_cast<std::uint8_t>(tokens.size());
  }

 private:
  static constexpr std::size_t most_bytes = 30, most_tokens = 8;

  struct word {
    token_t tokens[most_tokens]{};
    char bytes[most_bytes]{};
    std::uint8_t length = 0;
    std::uint8_t count = 0;
  };

  std::size_t place_of(std::string_view piece) const {
    std::uint64_t hash = piece.size();
    std::size_t at = 0;
    for (std::uint64_t part = 0; at < piece.size(); at += sizeof part) {
      part = 0;
      std::memcpy(&part, piece.data() + at, (std::min)(sizeof part, piece.size() - at));
      hash = (hash ^ part) * 0x9e3779b97f4a7c15u;
      hash ^= hash >> 32;
    }
    return static_cast<std::size_t>(hash * 0x9e3779b97f4a7c15u >> shift_);
  }

  std::vector<word> words_;
  int shift_;
};

/// Replaces the pair of neighbours with the lowest rank, the leftmost of equal ones, until no pair
/// is left that becomes a token. Allocates nothing once its rows have grown to the longest piece.
class pair_merger {
 public:
  /// The tokens in place of `tokens`, until the next call.
  std::span<const token_t> merge(const detail::merge_table& table,
                                 std::span<const token_t> tokens) {
    tokens_.assign(tokens.begin(), tokens.end());
    if (tokens_.size() < 2) return tokens_;
    steps_.resize(tokens_.size());
    for (std::size_t i = 0; i + 1 < tokens_.size(); ++i) {
      steps_[i] = table.find(tokens_[i], tokens_[i + 1]);
    }
    steps_.back() = {};
    tokens_.size() <= longest_row ? merge_row(table) : merge_heap(table);
    return tokens_;
  }

 private:
  using step = detail::merge_step;
  /// Up to here looking through a row is cheaper than a heap.
  static constexpr std::size_t longest_row = 48;

  void merge_row(const detail::merge_table& table) {
    std::size_t count = tokens_.size();
    while (count > 1) {
      std::size_t best = 0;
      for (std::size_t i = 1; i + 1 < count; ++i) {
        if (steps_[i].rank < steps_[best].rank) best = i;
      }
      if (steps_[best].rank == step::no_rank) break;
      tokens_[best] = steps_[best].result;
      const auto close = [&](auto& row) {
        const auto gone = row.begin() + static_cast<std::ptrdiff_t>(best) + 1;
        std::copy(gone + 1, row.begin() + static_cast<std::ptrdiff_t>(count), gone);
      };
      close(tokens_);
      close(steps_);
      --count;
      steps_[best] = best + 1 < count ? table.find(tokens_[best], tokens_[best + 1]) : step{};
      if (best > 0) steps_[best - 1] = table.find(tokens_[best - 1], tokens_[best]);
    }
    tokens_.resize(count);
  }

  /// The same in n log n: a heap of (rank, place), of which those that no longer hold are passed
  /// over. A place that has been merged into the one before it has no step.
  void merge_heap(const detail::merge_table& table) {
    const std::size_t count = tokens_.size();
    before_.resize(count);
    behind_.resize(count);
    heap_.clear();
    const auto push = [&](std::size_t at) {
      if (steps_[at].rank == step::no_rank) return;
      heap_.push_back(std::uint64_t{steps_[at].rank} << 32 | at);
      std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    };
    for (std::size_t i = 0; i < count; ++i) {
      before_[i] = static_cast<std::uint32_t>(i) - 1;  // of the first: not used
      behind_[i] = static_cast<std::uint32_t>(i) + 1;
      push(i);
    }
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      const std::uint64_t top = heap_.back();
      heap_.pop_back();
      const auto at = static_cast<std::uint32_t>(top);
      if (steps_[at].rank != top >> 32) continue;
      const std::uint32_t gone = behind_[at];
      tokens_[at] = steps_[at].result;
      steps_[gone] = {};
      tokens_[gone] = -1;
      behind_[at] = behind_[gone];
      if (behind_[at] < count) {
        before_[behind_[at]] = at;
        steps_[at] = table.find(tokens_[at], tokens_[behind_[at]]);
        push(at);
      } else {
        steps_[at] = {};
      }
      if (at > 0) {
        const std::uint32_t front = before_[at];
        steps_[front] = table.find(tokens_[front], tokens_[at]);
        push(front);
      }
    }
    std::erase(tokens_, token_t{-1});
  }

  std::vector<token_t> tokens_;
  std::vector<step> steps_;  // of each token with the one behind it
  std::vector<std::uint32_t> before_, behind_;
  std::vector<std::uint64_t> heap_;
};

}  // namespace mtp::inline MTP_ABI::io
