// Texts of chats, which know which of their bytes are the template's own.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "mtp/core/error.hpp"

namespace mtp::inline MTP_ABI::io {

/// A text whose bytes are the template's own or come from outside, from messages. What is made of
/// texts keeps this, byte for byte, so that a mark of the model in a message is never taken for one
/// of the template.
class chat_text {
 public:
  /// Nothing.
  chat_text() = default;
  /// All of it comes from outside, or none of it.
  explicit chat_text(std::string bytes, bool outside = false)
      : bytes_(std::move(bytes)), marks_(bytes_.size(), outside ? '\1' : '\0') {}

  /// The text itself.
  const std::string& bytes() const { return bytes_; }
  /// Bytes.
  std::size_t size() const { return bytes_.size(); }
  /// Whether a byte comes from outside.
  bool is_outside(std::size_t at) const { return marks_[at] != '\0'; }

  /// Appends. Throws mtp::error beyond 64 MiB.
  void append(const chat_text& other) {
    check(other.size() <= most - size(), "chat_template: a text has more than ", most, " bytes");
    bytes_ += other.bytes_;
    marks_ += other.marks_;
  }
  /// The bytes [begin, end).
  chat_text part(std::size_t begin, std::size_t end) const {
    chat_text result;
    result.bytes_ = bytes_.substr(begin, end - begin);
    result.marks_ = marks_.substr(begin, end - begin);
    return result;
  }

 private:
  static constexpr std::size_t most = std::size_t{1} << 26;

  std::string bytes_;
  std::string marks_;  // of each byte; 1: from outside
};

}  // namespace mtp::inline MTP_ABI::io
