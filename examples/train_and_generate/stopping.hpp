// SIGINT and SIGTERM: the first asks the program to stop, the second ends it.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string_view>

namespace example {

/// What the program returns after it was asked to stop.
inline constexpr int interrupted_status = 130;

/// Set by the first signal: finish the step, save, leave.
inline volatile std::sig_atomic_t stop_requested = 0;

namespace detail {

inline void stop_on_signal(int) {
  const int code = errno;
  const auto say = [](std::string_view text) {
    static_cast<void>(::write(STDERR_FILENO, text.data(), text.size()) < 0);
  };
  if (stop_requested != 0) {
    say("\nended at once; the last checkpoint stays\n");
    ::_exit(interrupted_status);
  }
  stop_requested = 1;
  say("\nstopping; a second signal ends it at once\n");
  errno = code;
}

}  // namespace detail

/// From now on, until the process ends.
inline void request_stop_on_signals() {
  std::signal(SIGINT, detail::stop_on_signal);
  std::signal(SIGTERM, detail::stop_on_signal);
}

}  // namespace example
