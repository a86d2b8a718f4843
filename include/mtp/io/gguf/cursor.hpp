// Reads the header of a GGUF file from its front, and never believes a length.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/gguf/format.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// A place in the header. A length is compared with what is left of the file before anything is
/// allocated for it, so a file cannot ask for more memory than some multiple of its own size.
class gguf_cursor {
 public:
  explicit gguf_cursor(const input_file& file)
      : file_(file), end_((std::min)(file.size(), gguf_max_header_bytes)) {}

  /// Bytes from the start of the file.
  std::uint64_t offset() const { return offset_; }
  /// Bytes that the header may still have.
  std::uint64_t left() const { return end_ - offset_; }

  /// The next number. `what` is its name in messages.
  template <class Number>
  Number number(std::string_view what) {
    Number value{};
    take(std::as_writable_bytes(std::span(&value, 1)), what);
    return value;
  }

  /// The next number, of things that have at least `bytes_each` bytes, all of which must be left.
  std::uint64_t count(std::uint64_t bytes_each, std::string_view what) {
    return fitting(number<std::uint64_t>(what), bytes_each, what);
  }

  /// `count`, if as many things of at least `bytes_each` bytes may follow.
  std::uint64_t fitting(std::uint64_t count,
                        std::uint64_t bytes_each,
                        std::string_view what) const {
    require(count <= left() / bytes_each,
            what,
            ": expected at most ",
            left() / bytes_each,
            ", since ",
            left(),
            end_ < file_.size() ? " bytes of the longest header are left, got "
                                : " bytes of the file are left, got ",
            count);
    return count;
  }

  /// The next text: a length and as many bytes.
  std::string text(std::string_view what) {
    std::string value(static_cast<std::size_t>(count(1, what)), '\0');
    take(std::as_writable_bytes(std::span(value)), what);
    return value;
  }

  template <class... Parts>
  void require(bool holds, const Parts&... parts) const {
    check(holds, "gguf_file: '", file_.path().string(), "': ", parts...);
  }

 private:
  static constexpr std::uint64_t piece = std::uint64_t{1} << 16;

  void take(std::span<std::byte> to, std::string_view what) {
    require(to.size() <= left(),
            what,
            ": the header ends too early: expected ",
            to.size(),
            " bytes at offset ",
            offset_,
            ", got ",
            left());
    while (!to.empty()) {
      if (at_ == buffer_.size()) {
        buffer_.resize(static_cast<std::size_t>((std::min)(piece, end_ - offset_)));
        file_.read_exactly(offset_, buffer_);
        at_ = 0;
      }
      const std::size_t some = (std::min)(to.size(), buffer_.size() - at_);
      std::memcpy(to.data(), buffer_.data() + at_, some);
      at_ += some;
      offset_ += some;
      to = to.subspan(some);
    }
  }

  const input_file& file_;
  std::uint64_t end_;         // of the file, or of the longest header
  std::uint64_t offset_ = 0;  // of the next byte
  std::vector<std::byte> buffer_;
  std::size_t at_ = 0;  // in the buffer
};

}  // namespace mtp::inline MTP_ABI::io::detail
