// Tokens that stand for a text as a whole, found before anything else.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/scalar.hpp"
#include "mtp/io/tokenizer/unicode.hpp"

namespace mtp::inline MTP_ABI::io {

/// A token beside those that merges make. Fields have Hugging Face's names.
struct added_token {
  token_t id = 0;            ///< its number
  std::string content = {};  ///< its text
  bool special = false;      ///< a mark of the model, such as the end of a text
  bool normalized = false;   ///< looked for in the normalized text, otherwise in the text itself
  bool lstrip = false;       ///< takes the white space in front of it
  bool rstrip = false;       ///< takes the white space behind it
  bool single_word = false;  ///< not within a word
};

namespace detail {

/// Finds added tokens in a text: at each place the longest.
class added_matcher {
 public:
  /// Looks for `text` in place of the token's content.
  void add(std::string text, const added_token& token) {
    if (text.empty()) return;
    begins_[static_cast<unsigned char>(text[0])] = true;
    const auto place = std::upper_bound(
        entries_.begin(), entries_.end(), text, [](const std::string& value, const entry& each) {
          return value < each.text;
        });
    entries_.insert(place, {std::move(text), token});
  }

  /// Calls gap(std::string_view) with what lies between tokens, and found(token_t), in order.
  template <class Gap, class Found>
  void split(std::string_view text,
             const unicode_classes& classes,
             Gap&& gap,
             Found&& found) const {
    std::size_t start = 0;  // of the gap
    for (std::size_t at = 0; at < text.size();) {
      const entry* const match =
          begins_[static_cast<unsigned char>(text[at])] ? longest(text.substr(at)) : nullptr;
      if (match == nullptr) {
        ++at;
        continue;
      }
      std::size_t begin = at;
      std::size_t end = at += match->text.size();
      if (begin < start) continue;  // within white space that the token before has taken
      if (match->token.single_word && is_in_word(text, classes, begin, end)) continue;
      if (match->token.lstrip) {
        while (begin > start && is_space(text, classes, place_before(text, begin))) {
          begin = place_before(text, begin);
        }
      }
      if (match->token.rstrip) {
        while (end < text.size() && is_space(text, classes, end)) {
          end += character_at(text, end).bytes;
        }
      }
      if (begin > start) gap(text.substr(start, begin - start));
      found(match->token.id);
      start = end;
    }
    if (start < text.size()) gap(text.substr(start));
  }

 private:
  struct entry {
    std::string text;
    added_token token;
  };

  /// The longest entry that a text begins with: a search in the sorted ones, byte by byte.
  const entry* longest(std::string_view text) const {
    const entry* best = nullptr;
    auto first = entries_.begin(), last = entries_.end();
    for (std::size_t i = 0; i < text.size() && first != last; ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      const auto value = [i](const entry& each) {  // of the byte there; -1 at the end
        return i < each.text.size() ? static_cast<int>(static_cast<unsigned char>(each.text[i]))
                                    : -1;
      };
      first = std::partition_point(first, last, [&](const entry& e) { return value(e) < byte; });
      last = std::partition_point(first, last, [&](const entry& e) { return value(e) == byte; });
      if (first != last && first->text.size() == i + 1) best = &*first;
    }
    return best;
  }

  static bool is_space(std::string_view text, const unicode_classes& classes, std::size_t at) {
    return classes.of(character_at(text, at).value) == character_class::space;
  }

  static bool is_in_word(std::string_view text,
                         const unicode_classes& classes,
                         std::size_t begin,
                         std::size_t end) {
    const auto is_word = [&](std::size_t at) {
      return classes.is_word(character_at(text, at).value);
    };
    return (begin > 0 && is_word(place_before(text, begin))) || (end < text.size() && is_word(end));
  }

  std::vector<entry> entries_;
  std::array<bool, 256> begins_{};
};

}  // namespace detail
}  // namespace mtp::inline MTP_ABI::io
