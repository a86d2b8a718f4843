// A lock that keeps two programs from writing into one folder.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "mtp/core/error.hpp"
#include "mtp/io/descriptor.hpp"

namespace mtp::inline MTP_ABI::io {

/// During its life, no other folder_lock of the same folder can be made, in this process or
/// another. Meanwhile the folder contains the file `.mtp.lock` with the process number. The file of
/// a killed process does no harm, because the system has released its lock. On file systems without
/// locks, the process number tells whether the owner still runs.
class folder_lock {
 public:
  /// The name of the file in the folder.
  static constexpr std::string_view file_name = ".mtp.lock";

  /// Locks an existing folder. Throws mtp::error, with the process number, if another one holds the
  /// lock, and if the file cannot be written.
  explicit folder_lock(std::filesystem::path folder) : path_(std::move(folder) / file_name) {
    folder_ = detail::open_folder_of(path_);
    while (!try_to_take()) {
    }
    write_process();
  }

  folder_lock(const folder_lock&) = delete;
  folder_lock& operator=(const folder_lock&) = delete;

  ~folder_lock() { ::unlinkat(folder_.get(), name().c_str(), 0); }

 private:
  std::string name() const { return std::string(file_name); }

  /// False if the previous owner has just removed the file.
  bool try_to_take() {
    file_ = descriptor(detail::uninterrupted([&] {
      return ::openat(folder_.get(),
                      name().c_str(),
                      O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
                      0666);
    }));
    if (!file_.is_open()) fail_system("open", path_, errno);
    struct ::stat status {};
    if (::fstat(file_.get(), &status) < 0) fail_system("stat", path_, errno);
    check(S_ISREG(status.st_mode),
          "folder_lock: '",
          path_.string(),
          "' is ",
          detail::kind_of_file(status.st_mode),
          ", not a regular file");
    const detail::lock_result result = detail::try_lock(file_);
    const std::string owner = read_process();
    if (result == detail::lock_result::held_by_another ||
        (result == detail::lock_result::not_supported && is_running(owner))) {
      fail("folder_lock: '",
           path_.parent_path().string(),
           "' is in use by process ",
           owner.empty() ? "?" : owner,
           "; wait until it has ended, or take another folder");
    }
    return detail::has_name(file_);
  }

  std::string read_process() const {
    std::array<char, 20> text{};
    const ::ssize_t got =
        detail::uninterrupted([&] { return ::pread(file_.get(), text.data(), text.size(), 0); });
    const std::string_view all(text.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
    return std::string(all.substr(0, all.find_first_not_of("0123456789")));
  }

  static bool is_running(const std::string& process) {
    ::pid_t number = 0;
    std::from_chars(process.data(), process.data() + process.size(), number);
    return number > 0 && number != ::getpid() && (::kill(number, 0) == 0 || errno != ESRCH);
  }

  void write_process() {
    const std::string text = std::to_string(::getpid()) + "\n";
    const bool is_empty = detail::uninterrupted([&] { return ::ftruncate(file_.get(), 0); }) == 0;
    const int code =
        is_empty ? detail::write_fully(file_.get(), 0, std::as_bytes(std::span(text))) : errno;
    if (code == 0) return;
    ::unlinkat(folder_.get(), name().c_str(), 0);
    fail_system("write", path_, code);
  }

  std::filesystem::path path_;
  descriptor folder_;
  descriptor file_;
};

}  // namespace mtp::inline MTP_ABI::io
