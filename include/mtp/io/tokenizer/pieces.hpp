// The pieces of a text within which tokens are formed: the regular expressions of pre-tokenizers,
// each as a scanner by hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "mtp/io/tokenizer/unicode.hpp"

namespace mtp::inline MTP_ABI::io {

/// How a text is cut into pieces. The regular expressions are in known_patterns.hpp.
enum class pretokenizer {
  none,         ///< the whole text is a piece
  gpt2,         ///< GPT-2
  smollm,       ///< each digit alone, then GPT-2: SmolLM, StarCoder
  llama3,       ///< Llama 3 and GLM-4: up to three digits, contractions in either case
  cl100k,       ///< the same, but white space at the end of the text is one piece: tiktoken's
  qwen2,        ///< Qwen2 and Qwen3: as llama3, each digit alone
  qwen3_5,      ///< Qwen3.5: as qwen2, marks belong to letters
  deepseek_v3,  ///< DeepSeek-V3 and later: three expressions one after another
};

namespace detail {

/// Finds pieces from the left. Each function that is named after a model is its expression, its
/// alternatives in their order; the pieces are those of the leftmost match, and what lies between
/// matches is a piece as well.
class piece_scanner {
 public:
  piece_scanner(pretokenizer kind, const unicode_classes& classes)
      : kind_(kind), classes_(classes) {}

  /// Calls sink(std::string_view) with each piece of the text, in order; none is empty.
  template <class Sink>
  void for_each(std::string_view text, Sink&& sink) {
    whole_ = text;
    std::size_t begin = 0;
    while (begin < whole_.size()) {
      text_ = whole_.substr(0, segment_end(begin));
      while (begin < text_.size()) {
        const std::size_t end = next(begin);
        sink(text_.substr(begin, end - begin));
        begin = end;
      }
    }
  }

 private:
  /// Sets of characters.
  using set = std::uint32_t;
  static constexpr set letters = set_of(character_class::letter);
  static constexpr set marks = set_of(character_class::mark);
  static constexpr set numbers = set_of(character_class::number);
  static constexpr set punctuation = set_of(character_class::punctuation);
  static constexpr set symbols = set_of(character_class::symbol);
  static constexpr set spaces = set_of(character_class::space);
  static constexpr set others = set_of(character_class::other);
  static constexpr set all = letters | marks | numbers | punctuation | symbols | spaces | others;
  struct seen {
    set is_in = 0;  // none at the end of the text
    std::uint32_t bytes = 0;
  };

  seen at(std::size_t place) const {
    const auto [sets, bytes] = classes_.sets_at(text_, place);
    return {sets, bytes};
  }

  bool has(std::size_t place, char byte) const {
    return place < text_.size() && text_[place] == byte;
  }

  /// The end of all, or of at most so many, characters of a set.
  std::size_t end_of(std::size_t place, set which, std::size_t most = SIZE_MAX) const {
    for (seen next = at(place); most > 0 && (next.is_in & which) != 0; next = at(place), --most) {
      place += next.bytes;
    }
    return place;
  }

  /// Where the next segment of an expression that comes before the last one ends.
  std::size_t segment_end(std::size_t begin) {
    if (kind_ != pretokenizer::smollm && kind_ != pretokenizer::deepseek_v3) return whole_.size();
    text_ = whole_;
    const set first = at(begin).is_in;
    if ((first & numbers) != 0) {
      return end_of(begin, numbers, kind_ == pretokenizer::smollm ? 1 : 3);
    }
    if (kind_ == pretokenizer::smollm) return end_of(begin, all & ~numbers);
    const bool is_east_asian = east_asian(begin);
    std::size_t end = begin;
    for (seen next = at(end); (next.is_in & (all & ~numbers)) != 0; next = at(end)) {
      if (east_asian(end) != is_east_asian) break;
      end += next.bytes;
    }
    return end;
  }

  /// [一-龥぀-ゟ゠-ヿ]
  bool east_asian(std::size_t place) const {
    const char32_t value = character_at(whole_, place).value;
    return (value >= 0x4e00 && value <= 0x9fa5) || (value >= 0x3040 && value <= 0x30ff);
  }

  std::size_t next(std::size_t begin) const {
    switch (kind_) {
      case pretokenizer::none:
        return text_.size();
      case pretokenizer::gpt2:
      case pretokenizer::smollm:
        return gpt2(begin);
      case pretokenizer::llama3:
      case pretokenizer::cl100k:
        return llama3(begin, letters, 3);
      case pretokenizer::qwen2:
        return llama3(begin, letters, 1);
      case pretokenizer::qwen3_5:
        return llama3(begin, letters | marks, 1);
      case pretokenizer::deepseek_v3:
        return deepseek_v3(begin);
    }
    return text_.size();
  }

  std::size_t gpt2(std::size_t begin) const {
    if (const std::size_t end = contraction(begin, false); end != begin) return end;
    const std::size_t first = begin + (has(begin, ' ') ? 1 : 0);
    const set is_in = at(first).is_in;
    for (const set which : {letters, numbers, all & ~(spaces | letters | numbers)}) {
      if ((is_in & which) != 0) return end_of(first, which);
    }
    return white_space(begin, false);
  }

  /// `word` is what words consist of, `digits` how many stay together.
  std::size_t llama3(std::size_t begin, set word, std::size_t digits) const {
    if (const std::size_t end = contraction(begin, true); end != begin) return end;
    const seen first = at(begin);
    if ((first.is_in & (line_ends | letters | numbers)) == 0) {
      const std::size_t second = begin + first.bytes;
      if ((at(second).is_in & word) != 0) return end_of(second, word);
    }
    if ((first.is_in & word) != 0) return end_of(begin, word);
    if ((first.is_in & numbers) != 0) return end_of(begin, numbers, digits);
    if (const std::size_t end = marks_of_text(begin, all & ~(spaces | word | numbers));
        end != begin) {
      return end;
    }
    return white_space(begin, true);
  }

  std::size_t deepseek_v3(std::size_t begin) const {
    const seen first = at(begin);
    if ((first.is_in & numbers) != 0) return text_.size();  // a segment, which nothing matches
    const std::size_t second = begin + first.bytes;
    const auto is_latin = [&](std::size_t place) {
      return place < text_.size() && ((text_[place] >= 'a' && text_[place] <= 'z') ||
                                      (text_[place] >= 'A' && text_[place] <= 'Z'));
    };
    if (first.bytes == 1 && (first.is_in & (punctuation | symbols)) != 0 && is_latin(second)) {
      std::size_t end = second;
      while (is_latin(end)) ++end;
      return end;
    }
    if ((first.is_in & (line_ends | letters | punctuation | symbols)) == 0 &&
        (at(second).is_in & (letters | marks)) != 0) {
      return end_of(second, letters | marks);
    }
    if ((first.is_in & (letters | marks)) != 0) return end_of(begin, letters | marks);
    if (const std::size_t end = marks_of_text(begin, punctuation | symbols); end != begin) {
      return end;
    }
    if ((first.is_in & spaces) != 0) return white_space(begin, true);
    // Control and unassigned characters match nothing, unless a word follows.
    std::size_t end = second;
    for (seen each = at(end); (each.is_in & others) != 0; each = at(end)) {
      if ((at(end + each.bytes).is_in & (letters | marks)) != 0) break;
      end += each.bytes;
    }
    return end;
  }

  /// ` ?[which]+[\r\n]*`
  std::size_t marks_of_text(std::size_t begin, set which) const {
    const std::size_t first = begin + (has(begin, ' ') ? 1 : 0);
    if ((at(first).is_in & which) == 0) return begin;
    std::size_t end = end_of(first, which);
    while (has(end, '\r') || has(end, '\n')) ++end;
    return end;
  }

  /// `\s*[\r\n]+|\s+(?!\S)|\s+`, the first only where lines count.
  std::size_t white_space(std::size_t begin, bool lines) const {
    std::size_t end = begin, last = begin, after_line = begin;
    for (seen next = at(end); (next.is_in & spaces) != 0; next = at(end)) {
      last = end;
      end += next.bytes;
      if ((next.is_in & line_ends) != 0) after_line = end;
    }
    const bool is_at_end = end == text_.size();
    if (is_at_end && kind_ == pretokenizer::cl100k) return end;
    if (lines && after_line != begin) return after_line;
    return is_at_end || last == begin ? end : last;
  }

  /// `'s|'t|'re|'ve|'m|'ll|'d`
  std::size_t contraction(std::size_t begin, bool either_case) const {
    if (!has(begin, '\'')) return begin;
    const auto is = [&](std::size_t place, char letter) {
      return has(place, letter) || (either_case && has(place, static_cast<char>(letter - 32)));
    };
    const std::size_t first = begin + 1;
    for (const char letter : {'s', 't', 'm', 'd'}) {
      if (is(first, letter)) return first + 1;
    }
    for (const char* const pair : {"re", "ve", "ll"}) {
      if (is(first, pair[0]) && is(first + 1, pair[1])) return first + 2;
    }
    // U+017F, which is an s without regard to case
    const bool is_long_s = either_case && has(first, '\xc5') && has(first + 1, '\xbf');
    return is_long_s ? first + 2 : begin;
  }

  pretokenizer kind_;
  const unicode_classes& classes_;
  std::string_view whole_;
  std::string_view text_;  // up to the end of the segment
};

}  // namespace detail
}  // namespace mtp::inline MTP_ABI::io
