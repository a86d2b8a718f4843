// How the chat shows text, and how it is interrupted.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "mtp/decode/text_stream.hpp"
#include "options.hpp"

namespace example {

/// Whether a stream is to be coloured: https://no-color.org.
inline bool is_coloured(colour when, int descriptor) {
  const char* const forbidden = std::getenv("NO_COLOR");
  const bool is_allowed = forbidden == nullptr || *forbidden == '\0';
  return when == colour::always ||
         (when == colour::automatic && is_allowed && ::isatty(descriptor) != 0);
}

/// The text with U+FFFD for control characters, which on a terminal could do anything; newlines and
/// tabs stay.
inline std::string without_control(std::string_view text) {
  std::string shown;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool is_long = byte == 0xc2 && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (is_long || byte == 0x7f || (byte < 0x20 && byte != '\n' && byte != '\t')) {
      shown += mtp::replacement_character;
      i += is_long ? 1 : 0;
    } else {
      shown += text[i];
    }
  }
  return shown;
}

/// Standard output: text of drafts in green.
class screen {
 public:
  explicit screen(colour when)
      : coloured_(is_coloured(when, STDOUT_FILENO)), terminal_(::isatty(STDOUT_FILENO) != 0) {}

  /// Shows pieces at once. Throws std::system_error where they cannot be written.
  void show(std::span<const mtp::text_piece> pieces) const {
    for (const mtp::text_piece& piece : pieces) {
      const bool green = coloured_ && piece.origin == mtp::text_origin::draft;
      if (green) put("\x1b[32m");
      put(terminal_ ? without_control(piece.text) : piece.text);
      if (green) put("\x1b[0m");
    }
    flush();
  }
  void end_line() const {
    put("\n");
    flush();
  }

 private:
  static void put(std::string_view text) {
    static_cast<void>(std::fwrite(text.data(), 1, text.size(), stdout));  // flush() sees failures
  }
  static void flush() {
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      throw std::system_error(errno, std::generic_category(), "standard output");
    }
  }

  bool coloured_, terminal_;
};

/// As long as it lives, the first SIGINT asks for the end of an answer and the second ends the
/// program, as one does where no answer is being written.
class interruption {
 public:
  interruption() {
    asked_for = 0;
    struct sigaction first {};
    first.sa_handler = [](int) { asked_for = 1; };
    first.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
    ::sigaction(SIGINT, &first, &before_);
  }
  ~interruption() { ::sigaction(SIGINT, &before_, nullptr); }
  interruption(const interruption&) = delete;
  interruption& operator=(const interruption&) = delete;

  bool is_asked_for() const { return asked_for != 0; }

 private:
  static inline volatile std::sig_atomic_t asked_for = 0;
  struct sigaction before_ {};
};

}  // namespace example
