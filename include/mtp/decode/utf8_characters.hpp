// Whole characters of UTF-8 from bytes that come one by one.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI {

/// U+FFFD, which stands for bytes that are no character.
inline constexpr std::string_view replacement_character = "\xef\xbf\xbd";

/// Puts bytes together to characters. Each maximal subpart of what is no UTF-8 gives one U+FFFD: as
/// many bytes as begin a well-formed character, or else a single byte. So says the Unicode Standard
/// (15.0, section 3.9: table 3-7, and "U+FFFD Substitution of Maximal Subparts"), and so do the
/// decoders of the WHATWG Encoding Standard. A byte order mark is a character like others.
class utf8_characters {
 public:
  /// Takes the next byte. sink(std::string_view) is called with what it completes, in the order of
  /// the text: U+FFFD for an unfinished character that cannot go on with this byte, then a
  /// character or U+FFFD that ends with it; one of them, both or neither. A view lives as long as
  /// the call.
  template <class Sink>
  void push(char byte, Sink&& sink) {
    const auto value = static_cast<unsigned char>(byte);
    if (is_unfinished() && (value < lowest_ || value > highest_)) {
      finish(sink);
    }
    if (is_unfinished()) {
      lowest_ = 0x80;
      highest_ = 0xbf;
    } else if (!begin(value)) {
      sink(replacement_character);
      return;
    }
    bytes_[count_++] = byte;
    if (count_ == length_) {
      count_ = 0;
      sink(std::string_view(bytes_.data(), length_));
    }
  }

  /// Ends the text: sink is called with U+FFFD if a character is unfinished. The next byte begins
  /// another text.
  template <class Sink>
  void finish(Sink&& sink) {
    if (is_unfinished()) {
      count_ = 0;
      sink(replacement_character);
    }
  }

  /// Whether the last bytes, at most three, are the beginning of a character.
  bool is_unfinished() const { return count_ > 0; }

 private:
  /// What follows a first byte: the rows of table 3-7. False if no character begins with it.
  bool begin(unsigned char first) {
    length_ = first < 0x80                     ? 1
              : first >= 0xc2 && first <= 0xdf ? 2
              : first >= 0xe0 && first <= 0xef ? 3
              : first >= 0xf0 && first <= 0xf4 ? 4
                                               : 0;
    // The second byte of longer ones keeps out overlong forms, surrogates and what is beyond
    // U+10FFFF.
    lowest_ = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    highest_ = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    return length_ > 0;
  }

  std::array<char, 4> bytes_{};
  std::size_t count_ = 0;                         // bytes of the character that are there
  std::size_t length_ = 0;                        // bytes that it has
  unsigned char lowest_ = 0x80, highest_ = 0xbf;  // what its next byte may be
};

}  // namespace mtp::inline MTP_ABI
