// Turns arbitrary bytes into text that is safe inside HTML, SVG and their attributes.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace example {

/// Text with &, <, >, " and ' as entities. What has no safe picture of its own is shown byte by
/// byte as \x1b: invalid UTF-8, control characters other than newline and tab, characters that turn
/// the direction of writing, noncharacters. Each run of such bytes is put between `open` and
/// `close`, which are markup and not escaped.
inline std::string escape(std::string_view text,
                          std::string_view open = {},
                          std::string_view close = {});

namespace detail {

// Length of the well-formed UTF-8 sequence at the start of `text`, or 0; `code` is its code point.
inline std::size_t utf8_length(std::string_view text, std::uint32_t& code) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::uint32_t first = byte(0);
  const std::size_t length = first < 0x80                     ? 1
                             : first >= 0xc2 && first <= 0xdf ? 2
                             : first >= 0xe0 && first <= 0xef ? 3
                             : first >= 0xf0 && first <= 0xf4 ? 4
                                                              : 0;
  if (length == 0 || text.size() < length) return 0;
  code = length == 1 ? first : first & (0xffu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = (code << 6) | (byte(i) & 0x3fu);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return overlong || surrogate || code > 0x10ffff ? 0 : length;
}

inline bool is_showable(std::uint32_t code) {
  if (code == '\n' || code == '\t') return true;
  if (code < 0x20 || (code >= 0x7f && code <= 0x9f)) return false;      // control characters
  if (code == 0x61c || code == 0x200e || code == 0x200f) return false;  // marks of direction
  if (code >= 0x202a && code <= 0x202e) return false;                   // embedding and override
  if (code >= 0x2066 && code <= 0x2069) return false;                   // isolates
  if (code >= 0xfdd0 && code <= 0xfdef) return false;                   // noncharacters
  return code != 0xfeff && (code & 0xfffe) != 0xfffe;
}

}  // namespace detail

inline std::string escape(std::string_view text, std::string_view open, std::string_view close) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  bool in_bytes = false;
  while (!text.empty()) {
    std::uint32_t code = 0;
    const std::size_t length = detail::utf8_length(text, code);
    const bool shown = length != 0 && detail::is_showable(code);
    if (shown == in_bytes) {
      out += shown ? close : open;
      in_bytes = !shown;
    }
    const std::size_t taken = length == 0 ? 1 : length;
    if (!shown) {
      for (const char c : text.substr(0, taken)) {
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
      }
    } else if (code == '&') {
      out += "&amp;";
    } else if (code == '<') {
      out += "&lt;";
    } else if (code == '>') {
      out += "&gt;";
    } else if (code == '"') {
      out += "&quot;";
    } else if (code == '\'') {
      out += "&#39;";
    } else {
      out += text.substr(0, taken);
    }
    text.remove_prefix(taken);
  }
  if (in_bytes) out += close;
  return out;
}

}  // namespace example
