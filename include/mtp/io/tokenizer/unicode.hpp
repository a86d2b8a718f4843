// Characters of UTF-8, and what the Unicode Character Database says of them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/config.hpp"
#include "mtp/io/tokenizer/unicode_class_table.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// What a regular expression asks of a character: \p{L}, \p{M}, \p{N}, \p{P}, \p{S} or \s. White
/// space comes before the category. Also the class of a byte that is no character.
enum class character_class : std::uint8_t {
  other,
  letter,
  mark,
  number,
  punctuation,
  symbol,
  space
};

/// Sets of classes.
constexpr std::uint32_t set_of(character_class each) {
  return 1u << static_cast<unsigned>(each);
}

/// A character of a text, or a byte that belongs to none.
struct character {
  char32_t value = 0;
  std::uint32_t bytes = 0;
};

/// The value of a byte that belongs to no character: the first that is beyond Unicode.
inline constexpr char32_t no_character = 0x110000;

/// The character at a place, as the Unicode Standard says (15.0, table 3-7); a byte that begins no
/// whole one stands alone.
inline character character_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const unsigned first = byte(at);
  if (first < 0x80) return {first, 1};
  const auto follows = [&](std::size_t i) { return (byte(i) & 0xc0u) == 0x80u; };
  if (first >= 0xc2 && first <= 0xdf && follows(at + 1)) {
    return {(first & 0x1fu) << 6 | (byte(at + 1) & 0x3fu), 2};
  }
  if (first >= 0xe0 && first <= 0xef && follows(at + 1) && follows(at + 2)) {
    const char32_t value =
        (first & 0xfu) << 12 | (byte(at + 1) & 0x3fu) << 6 | (byte(at + 2) & 0x3fu);
    if (value >= 0x800 && (value < 0xd800 || value > 0xdfff)) return {value, 3};
  }
  if (first >= 0xf0 && first <= 0xf4 && follows(at + 1) && follows(at + 2) && follows(at + 3)) {
    const char32_t value = (first & 7u) << 18 | (byte(at + 1) & 0x3fu) << 12 |
                           (byte(at + 2) & 0x3fu) << 6 | (byte(at + 3) & 0x3fu);
    if (value >= 0x10000 && value < no_character) return {value, 4};
  }
  return {no_character, 1};
}

/// The place of the character that ends at `end`, which is not 0.
inline std::size_t place_before(std::string_view text, std::size_t end) {
  for (std::size_t bytes = (std::min)(end, std::size_t{4}); bytes > 1; --bytes) {
    if (character_at(text, end - bytes).bytes == bytes) return end - bytes;
  }
  return end - 1;
}

/// Appends a character, which is below no_character.
inline void append_character(std::string& text, char32_t value) {
  const auto put = [&](char32_t byte) { text += static_cast<char>(byte); };
  if (value < 0x80) {
    put(value);
  } else if (value < 0x800) {
    put(0xc0 | value >> 6);
    put(0x80 | (value & 0x3f));
  } else if (value < 0x10000) {
    put(0xe0 | value >> 12);
    put(0x80 | (value >> 6 & 0x3f));
    put(0x80 | (value & 0x3f));
  } else {
    put(0xf0 | value >> 18);
    put(0x80 | (value >> 12 & 0x3f));
    put(0x80 | (value >> 6 & 0x3f));
    put(0x80 | (value & 0x3f));
  }
}

/// A number below 256 for each code point and for no_character, which has 0: blocks of 128, equal
/// neighbours stored once.
class code_point_table {
 public:
  /// Runs hold the first code point above `shift` bits of a value, in ascending order.
  code_point_table(std::span<const std::uint32_t> runs, int shift) {
    std::size_t run = 0;
    std::uint8_t value = 0;
    bool is_uniform = false;  // the block before, of what is now the value
    for (char32_t first = 0; first <= no_character; first += block) {
      const bool has_run = run < runs.size() && runs[run] >> shift < first + block;
      if (first == no_character) value = 0;
      if (has_run || !is_uniform || first == no_character) {
        for (char32_t i = 0; i < block; ++i) {
          while (run < runs.size() && runs[run] >> shift == first + i) {
            value = static_cast<std::uint8_t>(runs[run++] & ((1u << shift) - 1));
          }
          values_.push_back(value);
        }
      }
      is_uniform = !has_run;
      blocks_.push_back(static_cast<std::uint16_t>(values_.size() / block - 1));
    }
  }

  /// The number of a code point, at most no_character.
  std::uint8_t operator[](char32_t value) const {
    return values_[blocks_[value / block] * std::size_t{block} + value % block];
  }

 private:
  static constexpr char32_t block = 128;
  std::vector<std::uint16_t> blocks_;
  std::vector<std::uint8_t> values_;
};

/// Stands beside the classes in a set: \r and \n.
inline constexpr std::uint32_t line_ends = 1u << 7;

/// The classes of all characters.
class unicode_classes {
 public:
  unicode_classes() {
    for (char32_t value = 0; value < ascii_.size(); ++value) ascii_[value] = set_of_value(value);
  }

  /// The sets that a character is in, and its bytes; none at the end of the text.
  std::pair<std::uint32_t, std::uint32_t> sets_at(std::string_view text, std::size_t at) const {
    if (at >= text.size()) return {0, 0};
    const auto first = static_cast<unsigned char>(text[at]);
    if (first < ascii_.size()) return {ascii_[first], 1};
    const character next = character_at(text, at);
    return {set_of_value(next.value), next.bytes};
  }

  /// The class.
  character_class of(char32_t value) const {
    return static_cast<character_class>(table_[value] & 7u);
  }
  /// \w of a regular expression: letters, marks, decimal digits, and what joins them.
  bool is_word(char32_t value) const { return (table_[value] & 8u) != 0; }

 private:
  std::uint32_t set_of_value(char32_t value) const {
    return set_of(of(value)) | (value == '\r' || value == '\n' ? line_ends : 0u);
  }

  code_point_table table_{class_runs, 4};
  std::array<std::uint32_t, 128> ascii_{};
};

}  // namespace mtp::inline MTP_ABI::io::detail
