// Which of several strings a text ends with, as it comes byte by byte.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"

namespace mtp::inline MTP_ABI {

/// Looks for strings at the end of a text that grows by a byte at a time, in a time that does not
/// depend on the text: for each string, the longest of its beginnings that the text ends with
/// (Knuth, Morris and Pratt 1977).
class stop_strings {
 public:
  /// None, one or several, any bytes. Throws mtp::error if one of them is empty.
  explicit stop_strings(std::vector<std::string> strings) {
    patterns_.reserve(strings.size());
    for (std::string& string : strings) {
      check(!string.empty(),
            "stop_strings: expected strings of at least one byte, got an empty one at place ",
            patterns_.size(),
            " of ",
            strings.size());
      patterns_.push_back(pattern_of(std::move(string)));
    }
  }

  /// Takes the next byte of the text. Returns the place, in the list, of the string that it
  /// completes; of several the longest, of equal ones the first.
  std::optional<std::size_t> push(char byte) {
    std::optional<std::size_t> found;
    for (std::size_t i = 0; i < patterns_.size(); ++i) {
      pattern& each = patterns_[i];
      if (each.matched == each.string.size()) {
        each.matched = each.borders.back();
      }
      while (each.matched > 0 && each.string[each.matched] != byte) {
        each.matched = each.borders[each.matched - 1];
      }
      each.matched += each.string[each.matched] == byte ? 1 : 0;
      if (each.matched == each.string.size() && (!found || each.matched > length(*found))) {
        found = i;
      }
    }
    return found;
  }

  /// How many of the text's last bytes may be the beginning of a string; at most the bytes of the
  /// longest.
  std::size_t pending() const {
    std::size_t most = 0;
    for (const pattern& each : patterns_) {
      most = (std::max)(most, each.matched);
    }
    return most;
  }

  /// Bytes of the string at a place of the list.
  std::size_t length(std::size_t place) const { return patterns_[place].string.size(); }

  /// The next byte begins another text.
  void restart() {
    for (pattern& each : patterns_) {
      each.matched = 0;
    }
  }

 private:
  struct pattern {
    std::string string;
    /// Of its first i + 1 bytes: the longest end, not all of them, that is a beginning as well.
    std::vector<std::size_t> borders;
    std::size_t matched = 0;  // bytes of its beginning that the text ends with
  };

  static pattern pattern_of(std::string string) {
    std::vector<std::size_t> borders(string.size(), 0);
    for (std::size_t i = 1, border = 0; i < string.size(); ++i) {
      while (border > 0 && string[border] != string[i]) {
        border = borders[border - 1];
      }
      border += string[border] == string[i] ? 1 : 0;
      borders[i] = border;
    }
    return {std::move(string), std::move(borders)};
  }

  std::vector<pattern> patterns_;
};

}  // namespace mtp::inline MTP_ABI
