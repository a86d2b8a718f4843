// Makes the vocabulary of a tokenizer from a text.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/tokenizer/added_tokens.hpp"
#include "mtp/io/tokenizer/byte_level.hpp"
#include "mtp/io/tokenizer/pieces.hpp"
#include "mtp/io/tokenizer/tokenizer.hpp"

namespace mtp::inline MTP_ABI::io {

/// What a new tokenizer has beside its vocabulary.
struct train_tokenizer_options {
  pretokenizer pieces = pretokenizer::gpt2;  ///< merges stay within pieces
  std::vector<std::string> special = {};     ///< the first tokens, in this order
};

namespace detail {

/// Counts pairs of neighbours in the words of a text, and merges the most frequent.
class pair_counter {
 public:
  using pair = std::pair<token_t, token_t>;

  /// A word, and how often the text has it.
  void add(std::vector<token_t> tokens, std::int64_t count) {
    words_.push_back({std::move(tokens), count});
    change(words_.size() - 1, 1);
  }

  /// Comes between the last add and the first merge.
  void begin() {
    for (const auto& [key, each] : pairs_) queue_.push({each.count, pair_of(key)});
  }

  /// The most frequent pair, of equal ones the one with the lowest left, then right token; a count
  /// of 0 if there is none.
  std::pair<pair, std::int64_t> most_frequent() {
    while (!queue_.empty()) {
      const candidate top = queue_.top();
      const std::int64_t count = pairs_[key_of(top.both)].count;
      if (count == top.count && count > 0) return {top.both, count};
      queue_.pop();
      if (count > 0) queue_.push({count, top.both});
    }
    return {{}, 0};
  }

  /// Puts `result` in place of a pair, from the left.
  void merge(pair both, token_t result) {
    std::vector<std::size_t> words = std::move(pairs_[key_of(both)].words);
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    for (const std::size_t place : words) {
      change(place, -1);
      std::vector<token_t>& tokens = words_[place].tokens;
      std::size_t kept = 0;
      for (std::size_t i = 0; i < tokens.size(); ++kept) {
        const bool is_pair =
            i + 1 < tokens.size() && tokens[i] == both.first && tokens[i + 1] == both.second;
        tokens[kept] = is_pair ? result : tokens[i];
        i += is_pair ? 2 : 1;
      }
      tokens.resize(kept);
      change(place, 1);
    }
    // Only pairs with the new token have become more frequent.
    std::vector<std::uint64_t> grown;
    for (const std::size_t place : words) {
      const std::vector<token_t>& tokens = words_[place].tokens;
      for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
        const pair neighbours{tokens[i], tokens[i + 1]};
        if (neighbours.first == result || neighbours.second == result) {
          grown.push_back(key_of(neighbours));
        }
      }
    }
    std::sort(grown.begin(), grown.end());
    grown.erase(std::unique(grown.begin(), grown.end()), grown.end());
    for (const std::uint64_t key : grown) queue_.push({pairs_[key].count, pair_of(key)});
  }

 private:
  struct word {
    std::vector<token_t> tokens;
    std::int64_t count = 0;
  };
  struct seen_pair {
    std::int64_t count = 0;
    std::vector<std::size_t> words;  // that have it, or had it
  };
  struct candidate {
    std::int64_t count = 0;  // when it was queued
    pair both;

    bool operator<(const candidate& other) const {
      return count != other.count ? count < other.count : both > other.both;
    }
  };

  static std::uint64_t key_of(pair both) {
    return std::uint64_t{static_cast<std::uint32_t>(both.first)} << 32 |
           static_cast<std::uint32_t>(both.second);
  }

  static pair pair_of(std::uint64_t key) {
    return {static_cast<token_t>(key >> 32), static_cast<token_t>(key & 0xffffffffu)};
  }

  /// A word is there once more, or once less.
  void change(std::size_t place, std::int64_t sign) {
    const word& each = words_[place];
    for (std::size_t i = 0; i + 1 < each.tokens.size(); ++i) {
      const pair both{each.tokens[i], each.tokens[i + 1]};
      seen_pair& counted = pairs_[key_of(both)];
      counted.count += sign * each.count;
      if (sign < 0) continue;
      if (counted.words.empty() || counted.words.back() != place) counted.words.push_back(place);
    }
  }

  std::vector<word> words_;
  std::unordered_map<std::uint64_t, seen_pair> pairs_;
  std::priority_queue<candidate> queue_;
};

}  // namespace detail

/// Trains a byte-level BPE on a text without its special tokens. Tokens are, in this order: the
/// special ones; the 256 bytes, in the order of the characters that stand for them in files; and
/// what merges make. Each merge is of the pair that is most frequent in the pieces of the text, of
/// equally frequent ones the one with the lowest left token, then the lowest right one. It ends at
/// `vocab_size` tokens, or when no piece has two. The same text and options give the same
/// tokenizer. Throws mtp::error if `vocab_size` does not hold the special tokens and the bytes, or
/// if special tokens are empty or equal or single bytes.
inline tokenizer train_tokenizer(std::string_view text,
                                 index_t vocab_size,
                                 const train_tokenizer_options& options = {}) {
  tokenizer_model model;
  for (const std::string& each : options.special) {
    check(each.size() > 1, "train_tokenizer: expected special tokens of 2 bytes and more");
    const auto id = static_cast<token_t>(model.tokens.size());
    model.added.push_back({.id = id, .content = each, .special = true});
    model.tokens.push_back(each);
  }
  const auto fewest = static_cast<index_t>(options.special.size() + 256);
  constexpr index_t most = index_t{1} << 24;
  check(vocab_size >= fewest && vocab_size <= most,
        "train_tokenizer: expected a vocab_size from ",
        fewest,
        ", the special tokens and the bytes, to ",
        most,
        ", got ",
        vocab_size);

  constexpr detail::byte_level shown;
  std::vector<unsigned char> order(256);
  std::iota(order.begin(), order.end(), static_cast<unsigned char>(0));
  std::sort(order.begin(), order.end(), [&](unsigned char a, unsigned char b) {
    return shown.character_of(a) < shown.character_of(b);
  });
  std::vector<token_t> of_byte(256);
  for (const unsigned char byte : order) {
    of_byte[byte] = static_cast<token_t>(model.tokens.size());
    model.tokens.emplace_back(1, static_cast<char>(byte));
  }

  model.pieces = options.pieces;
  std::unordered_map<std::string_view, std::int64_t> words;
  std::vector<std::string_view> in_order;
  const detail::unicode_classes classes;
  detail::added_matcher special;
  for (const added_token& each : model.added) special.add(each.content, each);
  special.split(
      text,
      classes,
      [&](std::string_view gap) {
        detail::piece_scanner(options.pieces, classes).for_each(gap, [&](std::string_view piece) {
          if (words[piece]++ == 0) in_order.push_back(piece);
        });
      },
      [](token_t) {});
  detail::pair_counter counter;
  for (const std::string_view piece : in_order) {
    std::vector<token_t> tokens;
    for (const char byte : piece) tokens.push_back(of_byte[static_cast<unsigned char>(byte)]);
    counter.add(std::move(tokens), words[piece]);
  }
  counter.begin();

  std::unordered_map<std::string, token_t> ids;  // two pairs can make the same token
  for (std::size_t i = 0; i < model.tokens.size(); ++i) {
    ids.emplace(model.tokens[i], static_cast<token_t>(i));
  }
  while (static_cast<index_t>(model.tokens.size()) < vocab_size) {
    const auto [both, count] = counter.most_frequent();
    if (count == 0) break;
    const std::string bytes = model.tokens[static_cast<std::size_t>(both.first)] +
                              model.tokens[static_cast<std::size_t>(both.second)];
    const auto next = static_cast<token_t>(model.tokens.size());
    const auto [place, is_new] = ids.emplace(bytes, next);
    if (is_new) model.tokens.push_back(bytes);
    const auto rank = static_cast<std::uint32_t>(model.merges.size());
    model.merges.push_back({both.first, both.second, place->second, rank});
    counter.merge(both, place->second);
  }
  return tokenizer(std::move(model), "train_tokenizer");
}

}  // namespace mtp::inline MTP_ABI::io
