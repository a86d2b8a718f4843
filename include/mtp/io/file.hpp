// Files on POSIX systems: exact reads at an offset, and writes that replace a file whole or not at
// all.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

/// Throws mtp::error for the system call that has just set errno to `code`.
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

inline constexpr std::uint64_t max_offset =
    static_cast<std::uint64_t>((std::numeric_limits<::off_t>::max)());

/// Calls `call` until a signal no longer interrupts it.
template <class Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace detail

/// Owns an open file descriptor.
class descriptor {
 public:
  /// Nothing open.
  descriptor() = default;
  /// Takes a descriptor that is open; a negative value stands for none.
  explicit descriptor(int value) : value_(value) {}
  /// Takes it; `other` is closed afterwards.
  descriptor(descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  /// Swaps the two.
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~descriptor() {
    if (is_open()) ::close(value_);
  }

  /// Whether there is one.
  bool is_open() const { return value_ >= 0; }
  /// The descriptor, or -1.
  int get() const { return value_; }

  /// Closes and returns 0 or the errno. Closed afterwards in either case, as on Linux.
  [[nodiscard]] int close() {
    if (!is_open()) return 0;
    const int result = ::close(std::exchange(value_, -1));
    return result < 0 && errno != EINTR ? errno : 0;
  }

 private:
  int value_ = -1;
};

/// A regular file, open for reading. What it reads stays the same file when `path` is replaced.
class input_file {
 public:
  /// Throws mtp::error unless `path` is a regular file that can be read.
  explicit input_file(std::filesystem::path path) : path_(std::move(path)) {
    // Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
    descriptor_ = descriptor(detail::uninterrupted(
        [&] { return ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }));
    if (!descriptor_.is_open()) detail::fail_system("open", path_, errno);

    struct ::stat status {};
    if (::fstat(descriptor_.get(), &status) < 0) detail::fail_system("stat", path_, errno);
    if (S_ISDIR(status.st_mode)) detail::fail_system("read", path_, EISDIR);
    check(S_ISREG(status.st_mode), "mtp::io: '", path_.string(), "' is not a regular file");
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  /// As it was given.
  const std::filesystem::path& path() const { return path_; }

  /// Bytes, when the file was opened.
  std::uint64_t size() const { return size_; }

  /// Fills `to` with the bytes from `offset` on. Any thread may call it at any time.
  /// Throws mtp::error if the file ends earlier or cannot be read; `to` is then unspecified.
  void read_exactly(std::uint64_t offset, std::span<std::byte> to) const {
    check(to.size() <= detail::max_offset && offset <= detail::max_offset - to.size(),
          "mtp::io: '",
          path_.string(),
          "': offset ",
          offset,
          " with ",
          to.size(),
          " bytes is beyond any file");
    std::size_t done = 0;
    while (done < to.size()) {
      const ::ssize_t got = detail::uninterrupted([&] {
        return ::pread(descriptor_.get(),
                       to.data() + done,
                       to.size() - done,
                       static_cast<::off_t>(offset + done));
      });
      if (got < 0) detail::fail_system("read", path_, errno);
      check(got > 0,
            "mtp::io: '",
            path_.string(),
            "' ends too early: at offset ",
            offset,
            " wanted ",
            to.size(),
            " bytes, got ",
            done);
      done += static_cast<std::size_t>(got);
    }
  }

 private:
  std::filesystem::path path_;
  descriptor descriptor_;
  std::uint64_t size_ = 0;
};

/// Replaces a file by a new one. The bytes go to a temporary file in the same directory, named
/// `<target>.tmp-<process>-<number>`, which commit() renames to the target: whoever opens the
/// target finds the old content or the new one, never a mixture. Without commit() the destructor
/// removes the temporary file; after a crash it stays, and is in nobody's way. Writers of one
/// target do not disturb each other; the last commit() wins. A target that is a symbolic link is
/// itself replaced. Every failure throws mtp::error.
class atomic_file {
 public:
  /// Makes the temporary file. Throws mtp::error if the directory does not take one, or if `target`
  /// is a directory.
  explicit atomic_file(std::filesystem::path target) : target_(std::move(target)) {
    check(target_.has_filename(), "mtp::io: '", target_.string(), "' is not the name of a file");
    std::error_code ignored;
    if (std::filesystem::is_directory(target_, ignored)) {
      detail::fail_system("write", target_, EISDIR);
    }

    // All names are relative to this descriptor, so that a change of the working directory in
    // between does no harm.
    const std::filesystem::path folder = target_.has_parent_path() ? target_.parent_path() : ".";
    directory_ = descriptor(detail::uninterrupted(
        [&] { return ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (!directory_.is_open()) detail::fail_system("open the directory of", target_, errno);

    const std::string prefix = target_.filename().string() + ".tmp-" + std::to_string(::getpid());
    for (int number = 0; !file_.is_open(); ++number) {
      temporary_ = prefix + "-" + std::to_string(number);
      file_ = descriptor(detail::uninterrupted([&] {
        return ::openat(
            directory_.get(), temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      }));
      if (!file_.is_open() && errno != EEXIST) {
        detail::fail_system("create a temporary file for", target_, errno);
      }
    }
  }

  atomic_file(const atomic_file&) = delete;
  atomic_file& operator=(const atomic_file&) = delete;

  ~atomic_file() {
    if (!renamed_) ::unlinkat(directory_.get(), temporary_.c_str(), 0);
  }

  /// The name of the temporary file, without its directory.
  const std::string& temporary() const { return temporary_; }

  /// Bytes written so far.
  std::uint64_t size() const { return size_; }

  /// Appends.
  void write(std::span<const std::byte> bytes) {
    write_pieces(bytes, [&](const std::byte* from, std::size_t count, std::uint64_t) {
      return ::write(file_.get(), from, count);
    });
    size_ += bytes.size();
  }

  /// Replaces bytes that have been written before.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
    check(bytes.size() <= size_ && offset <= size_ - bytes.size(),
          "mtp::io: '",
          target_.string(),
          "': cannot replace ",
          bytes.size(),
          " bytes at offset ",
          offset,
          ", only ",
          size_,
          " bytes are written");
    write_pieces(bytes, [&](const std::byte* from, std::size_t count, std::uint64_t done) {
      return ::pwrite(file_.get(), from, count, static_cast<::off_t>(offset + done));
    });
  }

  /// Puts the new file in place, on the disk and not only in its cache.
  /// If only the last step fails, the sync of the directory, the new file is already in place but
  /// may not survive a loss of power; after every other failure the old file is untouched.
  void commit() {
    check_open();
    sync(file_);
    if (const int code = file_.close(); code != 0) detail::fail_system("close", target_, code);
    if (::renameat(
            directory_.get(), temporary_.c_str(), directory_.get(), target_.filename().c_str()) <
        0) {
      detail::fail_system("rename the temporary file to", target_, errno);
    }
    renamed_ = true;
    sync(directory_);
  }

 private:
  void check_open() const {
    check(file_.is_open(), "mtp::io: '", target_.string(), "' is already committed or closed");
  }

  /// `write_some(from, count, done)` writes up to `count` bytes and returns how many.
  template <class WriteSome>
  void write_pieces(std::span<const std::byte> bytes, WriteSome write_some) {
    check_open();
    std::size_t done = 0;
    while (done < bytes.size()) {
      const ::ssize_t written = detail::uninterrupted(
          [&] { return write_some(bytes.data() + done, bytes.size() - done, done); });
      if (written <= 0) detail::fail_system("write", target_, written < 0 ? errno : ENOSPC);
      done += static_cast<std::size_t>(written);
    }
  }

  void sync(const descriptor& what) const {
    // EINVAL: a file system that has nothing to sync here, such as some network ones for
    // directories.
    if (detail::uninterrupted([&] { return ::fsync(what.get()); }) < 0 && errno != EINVAL) {
      detail::fail_system("sync", target_, errno);
    }
  }

  std::filesystem::path target_;
  descriptor directory_;
  std::string temporary_;
  descriptor file_;
  std::uint64_t size_ = 0;
  bool renamed_ = false;
};

/// Collects small writes into large ones. Only flush() brings the rest into the file: a destructor
/// could not report that the disk is full.
class buffered_writer {
 public:
  /// Bytes that are collected before they are written.
  static constexpr std::size_t capacity = std::size_t{1} << 20;

  /// `file` must outlive the writer.
  explicit buffered_writer(atomic_file& file) : file_(file) { buffer_.reserve(capacity); }

  /// Appends. Throws mtp::error if the disk does not take it.
  void write(std::span<const std::byte> bytes) {
    if (bytes.size() > capacity - buffer_.size()) flush();
    if (bytes.size() >= capacity) {
      file_.write(bytes);
    } else {
      buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    }
  }
  /// Appends a text.
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  /// Writes what has been collected. Throws mtp::error if the disk does not take it.
  void flush() {
    file_.write(buffer_);
    buffer_.clear();
  }

 private:
  atomic_file& file_;
  std::vector<std::byte> buffer_;
};

}  // namespace mtp::inline MTP_ABI::io
