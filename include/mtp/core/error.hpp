// The exception of the library, and the checks that throw it.
#pragma once

#include <initializer_list>
#include <locale>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "mtp/core/config.hpp"
#include "mtp/core/default_environment.hpp"

namespace mtp::inline MTP_ABI {

/// The only exception type of the library. The message names the function, what was expected and
/// what came. A call that throws has changed nothing that the caller can see, unless its comment
/// says so: trainer::step counts the bad steps before it ends the run. If the host's own containers
/// run out of memory, std::bad_alloc passes through, and the same holds.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

/// Anything that can be streamed, by reference: messages have hundreds of types, parts a few.
class message_part {
 public:
  /// String literals of all lengths are one type.
  message_part(const char* text) : part_{text}, write_{&write_text} {}
  template <class Part>
  message_part(const Part& part) : part_{&part}, write_{&write_part<Part>} {}

  friend std::ostream& operator<<(std::ostream& message, const message_part& part) {
    part.write_(message, part.part_);
    return message;
  }

 private:
  static void write_text(std::ostream& message, const void* text) {
    message << static_cast<const char*>(text);
  }
  template <class Part>
  static void write_part(std::ostream& message, const void* part) {
    message << *static_cast<const Part*>(part);
  }

  const void* part_;
  void (*write_)(std::ostream&, const void*);
};

[[noreturn]] __attribute__((cold, noinline)) inline void fail_with(
    std::initializer_list<message_part> parts) {
  const default_environment scope;
  std::ostringstream message;
  message.imbue(std::locale::classic());
  for (const message_part& part : parts) message << part;
  throw error(message.str());
}

}  // namespace detail

/// Throws mtp::error with the parts joined. Numbers are formatted as in the C locale, whatever the
/// program's locale and floating-point environment.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  detail::fail_with({detail::message_part(parts)...});
}

/// Throws mtp::error unless `holds`. The parts are formatted only on failure.
template <class... Parts>
constexpr void check(bool holds, const Parts&... parts) {
  if (!holds) [[unlikely]] {
    fail(parts...);
  }
}

}  // namespace mtp::inline MTP_ABI
