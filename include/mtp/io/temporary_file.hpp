// Temporary files next to the files that they will replace: their names, and the removal of those
// that killed processes have left.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

#include "mtp/io/descriptor.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// Names of temporary files are <target>.mtp.tmp-<process>-<number>.
inline constexpr std::string_view temporary_mark = ".mtp.tmp-";

/// The longest name that a file in an open folder may have, in bytes.
inline std::size_t longest_name(const descriptor& folder) {
  const long limit = ::fpathconf(folder.get(), _PC_NAME_MAX);
  return limit > 0 ? static_cast<std::size_t>(limit) : 255;
}

/// The name of this process's temporary file for `target`. If the name would be too long, the
/// target is cut, between characters if it is UTF-8.
inline std::string temporary_name(std::string_view target, int number, std::size_t longest) {
  const std::string tail =
      std::string(temporary_mark) + std::to_string(::getpid()) + "-" + std::to_string(number);
  if (target.size() + tail.size() > longest) {
    std::size_t kept = longest - (std::min)(longest, tail.size());
    while (kept > 0 && (static_cast<unsigned char>(target[kept]) & 0xc0u) == 0x80u) --kept;
    target = target.substr(0, kept);
  }
  return std::string(target) + tail;
}

/// Reads a decimal number in the form of std::to_string and removes it from `text`; -1 if there is
/// none.
inline long take_number(std::string_view& text) {
  long number = -1;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto length = static_cast<std::size_t>(end - text.data());
  const bool is_plain = status == std::errc() && number >= 0 && (text[0] != '0' || length == 1);
  text.remove_prefix(length);
  return is_plain ? number : -1;
}

/// The process that made a temporary file of this name; 0 if it is no such name.
inline ::pid_t maker_of(std::string_view name) {
  const std::size_t mark = name.rfind(temporary_mark);
  if (mark == std::string_view::npos) return 0;
  std::string_view rest = name.substr(mark + temporary_mark.size());
  const long process = take_number(rest);
  if (process <= 0 || !rest.starts_with('-') || static_cast<long>(::pid_t(process)) != process) {
    return 0;
  }
  rest.remove_prefix(1);
  return take_number(rest) >= 0 && rest.empty() ? static_cast<::pid_t>(process) : 0;
}

/// Removes a temporary file that nobody will finish: its process is gone, its lock is free, and its
/// owner is this user. In containers, a process that is gone may have had our own process number;
/// then only the lock decides.
inline void remove_if_left(const descriptor& folder, const char* name, ::pid_t maker) {
  const bool is_own_number = maker == ::getpid();
  if (!is_own_number && (::kill(maker, 0) == 0 || errno != ESRCH)) return;
  const descriptor file(uninterrupted(
      [&] { return ::openat(folder.get(), name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC); }));
  struct ::stat status {};
  if (!file.is_open() || ::fstat(file.get(), &status) < 0) return;
  if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid()) return;
  const lock_result lock = try_lock(file);
  const bool is_left =
      lock == lock_result::taken || (lock == lock_result::not_supported && !is_own_number);
  // Without a name, another process has removed it since, and the name may belong to another file.
  if (is_left && has_name(file)) {
    ::unlinkat(folder.get(), name, 0);
  }
}

/// Removes the temporary files of killed processes from a folder. Files that cannot be examined or
/// removed stay; that is not an error.
inline void remove_leftovers(const descriptor& folder) {
  const int again = uninterrupted(
      [&] { return ::openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (again < 0) return;
  const auto close = [](::DIR* open) { ::closedir(open); };
  const std::unique_ptr<::DIR, decltype(close)> entries(::fdopendir(again), close);
  if (!entries) {
    ::close(again);
    return;
  }
  while (const ::dirent* entry = ::readdir(entries.get())) {
    if (const ::pid_t maker = maker_of(entry->d_name); maker != 0) {
      remove_if_left(folder, entry->d_name, maker);
    }
  }
}

/// Makes and locks a temporary file for `target`, a name in `folder`, and stores its name. If that
/// fails, the descriptor is not open, and errno has the reason.
inline descriptor make_temporary(const descriptor& folder,
                                 std::string_view target,
                                 std::string& name) {
  const std::size_t longest = longest_name(folder);
  for (int number = 0;; ++number) {
    name = temporary_name(target, number, longest);
    descriptor file(uninterrupted([&] {
      return ::openat(folder.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }));
    if (!file.is_open()) {
      if (errno == EEXIST) continue;
      return file;
    }
    // A process that removes leftovers may have been faster: then the file is about to be removed.
    if (try_lock(file) != lock_result::held_by_another && has_name(file)) return file;
  }
}

}  // namespace mtp::inline MTP_ABI::io::detail
