// Normalization Form C of Unicode.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "mtp/io/tokenizer/unicode.hpp"
#include "mtp/io/tokenizer/unicode_composition_table.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// Puts texts into Normalization Form C (Unicode Standard Annex 15). Bytes that are no characters
/// stay as they are, and nothing composes across them.
class nfc_normalizer {
 public:
  nfc_normalizer() {
    constexpr std::uint64_t low = (std::uint64_t{1} << 20) - 1;
    for (const std::uint64_t entry : single_decompositions) {
      decompositions_[static_cast<char32_t>(entry >> 20)] = {static_cast<char32_t>(entry & low), 0};
    }
    for (const std::uint64_t entry : pair_decompositions) {
      const auto whole = static_cast<char32_t>(entry >> 40 & low);
      const auto first = static_cast<char32_t>(entry >> 20 & low);
      const auto second = static_cast<char32_t>(entry & low);
      decompositions_[whole] = {first, second};
      if (entry >> 63 == 0) {
        compositions_[std::uint64_t{first} << 32 | second] = whole;
        attached_.insert(second);
      }
      // U+0F81, of class 0 itself, is two marks, which what stands in front may come between.
      if (combining_[first] != 0) attached_.insert(whole);
    }
  }

  /// The text in Normalization Form C.
  std::string operator()(std::string_view text) const {
    std::string result;
    result.reserve(text.size());
    std::vector<char32_t> part;
    for (std::size_t at = 0; at < text.size();) {
      // From one character that nothing in front of it changes to the next. A byte that is no
      // character stands alone.
      const std::size_t begin = at;
      part.clear();
      do {
        const character next = character_at(text, at);
        part.push_back(next.value);
        at += next.bytes;
      } while (part.back() != no_character && at < text.size() &&
               !is_boundary(character_at(text, at).value));
      if (part.size() == 1 && is_stable(part[0])) {
        result += text.substr(begin, at - begin);
      } else {
        append(part, result);
      }
    }
    return result;
  }

 private:
  static constexpr char32_t hangul = 0xac00, hangul_count = 11172;
  static constexpr char32_t lead = 0x1100, vowel = 0x1161, tail = 0x11a7;
  static constexpr char32_t leads = 19, vowels = 21, tails = 28;

  /// Whether nothing that stands in front changes a character.
  bool is_boundary(char32_t value) const {
    if (value < 0x300 || value == no_character) return true;
    return combining_[value] == 0 && !attached_.contains(value) &&
           !(value >= vowel && value < vowel + vowels) && !(value > tail && value < tail + tails);
  }

  /// Whether a character alone is its own normal form.
  bool is_stable(char32_t value) const {
    if (value < 0x300 || value == no_character) return true;
    const auto found = decompositions_.find(value);
    if (found == decompositions_.end()) return true;
    const auto [first, second] = found->second;
    const auto composed = compositions_.find(std::uint64_t{first} << 32 | second);
    return second != 0 && composed != compositions_.end() && composed->second == value;
  }

  void decompose(char32_t value, std::vector<char32_t>& to) const {
    if (value >= hangul && value < hangul + hangul_count) {
      const char32_t index = value - hangul;
      to.push_back(lead + index / (vowels * tails));
      to.push_back(vowel + index / tails % vowels);
      if (index % tails != 0) to.push_back(tail + index % tails);
      return;
    }
    const auto found = decompositions_.find(value);
    if (found == decompositions_.end()) {
      to.push_back(value);
      return;
    }
    decompose(found->second.first, to);
    if (found->second.second != 0) decompose(found->second.second, to);
  }

  /// The character that two compose to, or 0.
  char32_t compose(char32_t first, char32_t second) const {
    if (first >= lead && first < lead + leads && second >= vowel && second < vowel + vowels) {
      return hangul + ((first - lead) * vowels + (second - vowel)) * tails;
    }
    if (first >= hangul && first < hangul + hangul_count && (first - hangul) % tails == 0 &&
        second > tail && second < tail + tails) {
      return first + (second - tail);
    }
    const auto found = compositions_.find(std::uint64_t{first} << 32 | second);
    return found == compositions_.end() ? 0 : found->second;
  }

  void append(const std::vector<char32_t>& part, std::string& result) const {
    std::vector<char32_t> all;
    for (const char32_t value : part) decompose(value, all);
    for (std::size_t i = 0; i < all.size(); ++i) {  // canonical order
      const std::size_t begin = i;
      while (i < all.size() && combining_[all[i]] != 0) ++i;
      std::stable_sort(all.begin() + static_cast<std::ptrdiff_t>(begin),
                       all.begin() + static_cast<std::ptrdiff_t>(i),
                       [&](char32_t a, char32_t b) { return combining_[a] < combining_[b]; });
    }
    std::size_t kept = 0;
    std::size_t starter = all.size();  // none
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::uint8_t rank = combining_[all[i]];
      // Blocked by what stands between: a starter, or a mark of no lower class.
      const bool reaches =
          starter < kept && (starter + 1 == kept || combining_[all[kept - 1]] < rank);
      if (const char32_t whole = reaches ? compose(all[starter], all[i]) : 0; whole != 0) {
        all[starter] = whole;
        continue;
      }
      if (rank == 0) starter = kept;
      all[kept++] = all[i];
    }
    for (std::size_t i = 0; i < kept; ++i) append_character(result, all[i]);
  }

  code_point_table combining_{combining_runs, 8};
  std::unordered_map<char32_t, std::pair<char32_t, char32_t>> decompositions_;
  std::unordered_map<std::uint64_t, char32_t> compositions_;
  std::unordered_set<char32_t> attached_;  // what something in front may change, by its parts
};

}  // namespace mtp::inline MTP_ABI::io::detail
