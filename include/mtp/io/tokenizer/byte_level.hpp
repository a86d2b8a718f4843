// The characters that stand for bytes in files of byte-level tokenizers.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "mtp/io/tokenizer/unicode.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// GPT-2's table: bytes that Latin-1 shows are themselves, the others U+0100 and on in their order.
class byte_level {
 public:
  constexpr byte_level() {
    char32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool is_shown = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
      to_[byte] = is_shown ? char32_t{byte} : next++;
      from_[to_[byte]] = static_cast<short>(byte);
    }
  }

  /// The characters that stand for bytes.
  std::string shown(std::string_view bytes) const {
    std::string text;
    for (const char byte : bytes) append_character(text, to_[static_cast<unsigned char>(byte)]);
    return text;
  }

  /// The character that stands for a byte.
  char32_t character_of(unsigned char byte) const { return to_[byte]; }

  /// The bytes that characters stand for; none if one stands for no byte.
  std::optional<std::string> bytes(std::string_view text) const {
    std::string result;
    for (std::size_t at = 0; at < text.size();) {
      const character next = character_at(text, at);
      if (next.value >= from_.size() || from_[next.value] < 0) return {};
      result += static_cast<char>(from_[next.value]);
      at += next.bytes;
    }
    return result;
  }

 private:
  static constexpr std::array<short, 0x144> nothing() {
    std::array<short, 0x144> all{};
    for (short& each : all) each = -1;
    return all;
  }

  std::array<char32_t, 256> to_{};
  std::array<short, 0x144> from_ = nothing();
};

}  // namespace mtp::inline MTP_ABI::io::detail
