// The exception of the library, and the checks that throw it.
#pragma once

#include <locale>
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

/// Throws mtp::error with the parts joined. Numbers are formatted as in the C locale, whatever the
/// program's locale and floating-point environment.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  const detail::default_environment scope;
  std::ostringstream message;
  message.imbue(std::locale::classic());
  (message << ... << parts);
  throw error(message.str());
}

/// Throws mtp::error unless `holds`. The parts are formatted only on failure.
template <class... Parts>
constexpr void check(bool holds, const Parts&... parts) {
  if (!holds) [[unlikely]] {
    fail(parts...);
  }
}

}  // namespace mtp::inline MTP_ABI
