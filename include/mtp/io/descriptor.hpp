// Shared by all files on POSIX systems: descriptors with an owner, locks, and errors with their
// reason.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"

namespace mtp::inline MTP_ABI::io {

/// Throws mtp::error "cannot <operation> '<path>': <reason>" for a system call that has set errno
/// to `code`.
[[noreturn]] inline void fail_system(std::string_view operation,
                                     const std::filesystem::path& path,
                                     int code) {
  fail("mtp::io: cannot ",
       operation,
       " '",
       path.string(),
       "': ",
       std::generic_category().message(code),
       " (errno ",
       code,
       ")");
}

namespace detail {

inline constexpr std::uint64_t max_offset =
    static_cast<std::uint64_t>((std::numeric_limits<::off_t>::max)());

/// Calls `call` until a signal no longer interrupts it.
template <class Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

/// Writes all bytes at an offset, with as many calls as that takes. Returns 0 or the errno.
inline int write_fully(int file, std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ::ssize_t written = uninterrupted(
        [&] { return ::pwrite(file, bytes.data(), bytes.size(), static_cast<::off_t>(offset)); });
    if (written <= 0) return written < 0 ? errno : ENOSPC;
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return 0;
}

/// The names in a folder, in no order; `code` has the reason if it cannot be read.
inline std::vector<std::filesystem::path> names_in(const std::filesystem::path& folder,
                                                   std::error_code& code) {
  std::vector<std::filesystem::path> names;
  std::filesystem::directory_iterator entry(folder, code);
  while (code == std::errc::interrupted) {
    entry = std::filesystem::directory_iterator(folder, code);
  }
  for (; !code && entry != std::filesystem::directory_iterator(); entry.increment(code)) {
    names.push_back(entry->path().filename());
  }
  return names;
}

/// The kind of file for these mode bits, for messages.
inline std::string_view kind_of_file(::mode_t mode) {
  if (S_ISREG(mode)) return "a regular file";
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return S_ISCHR(mode) || S_ISBLK(mode) ? "a device" : "a file of a special kind";
}

}  // namespace detail

/// Owns an open file descriptor.
class descriptor {
 public:
  /// Nothing open.
  descriptor() = default;
  /// Takes a descriptor that is open; a negative value stands for none.
  explicit descriptor(int value) : value_(value) {}
  /// Takes the descriptor; `other` is closed afterwards.
  descriptor(descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  /// Swaps the two.
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~descriptor() {
    if (is_open()) ::close(value_);
  }

  /// Whether a descriptor is open.
  bool is_open() const { return value_ >= 0; }
  /// The descriptor, or -1.
  int get() const { return value_; }

  /// Closes and returns 0 or the errno. As on Linux, it is closed in either case.
  [[nodiscard]] int close() {
    if (!is_open()) return 0;
    const int result = ::close(std::exchange(value_, -1));
    return result < 0 && errno != EINTR ? errno : 0;
  }

 private:
  int value_ = -1;
};

namespace detail {

/// Opens the folder that contains `path`. Names are relative to this descriptor, so a change of the
/// working directory does no harm.
inline descriptor open_folder_of(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  descriptor opened(
      uninterrupted([&] { return ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (!opened.is_open()) fail_system("open the directory of", path, errno);
  return opened;
}

enum class lock_result { taken, held_by_another, not_supported };

/// Locks an open file without waiting. The lock ends with the process in any case, so nobody has to
/// guess from process numbers whether its owner still lives.
inline lock_result try_lock(const descriptor& file) {
  if (uninterrupted([&] { return ::flock(file.get(), LOCK_EX | LOCK_NB); }) == 0) {
    return lock_result::taken;
  }
  return errno == EWOULDBLOCK ? lock_result::held_by_another : lock_result::not_supported;
}

/// Whether an open file still has a name.
inline bool has_name(const descriptor& file) {
  struct ::stat status {};
  return ::fstat(file.get(), &status) == 0 && status.st_nlink > 0;
}

}  // namespace detail

}  // namespace mtp::inline MTP_ABI::io
