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
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/descriptor.hpp"
#include "mtp/io/file_map.hpp"
#include "mtp/io/temporary_file.hpp"

namespace mtp::inline MTP_ABI::io {

/// A regular file, open for reading. If `path` is replaced, it still reads the old file.
class input_file {
 public:
  /// Throws mtp::error unless `path` is a regular file that can be read.
  explicit input_file(std::filesystem::path path) : path_(std::move(path)) {
    // Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
    descriptor_ = descriptor(detail::uninterrupted(
        [&] { return ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }));
    if (!descriptor_.is_open()) fail_system("open", path_, errno);

    struct ::stat status {};
    if (::fstat(descriptor_.get(), &status) < 0) fail_system("stat", path_, errno);
    if (S_ISDIR(status.st_mode)) fail_system("read", path_, EISDIR);
    check(S_ISREG(status.st_mode),
          "mtp::io: cannot read '",
          path_.string(),
          "': it is ",
          detail::kind_of_file(status.st_mode),
          ", not a regular file");
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  /// The path given to the constructor.
  const std::filesystem::path& path() const { return path_; }

  /// Size in bytes when the file was opened.
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
      if (got < 0) fail_system("read", path_, errno);
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

  /// `bytes` bytes from `offset` on as memory, until detail::unmap_file(memory, bytes): see
  /// detail::map_file. It outlives this object. Throws mtp::error if the file has fewer bytes.
  std::byte* map(std::uint64_t offset, std::size_t bytes) const {
    check(bytes <= size_ && offset <= size_ - bytes,
          "mtp::io: '",
          path_.string(),
          "' has ",
          size_,
          " bytes; cannot map ",
          bytes,
          " from offset ",
          offset,
          " on");
    return detail::map_file(descriptor_, path_, offset, bytes);
  }

 private:
  std::filesystem::path path_;
  descriptor descriptor_;
  std::uint64_t size_ = 0;
};

/// Replaces a file by a new one. The bytes go to a temporary file in the same directory,
/// `<target>.mtp.tmp-<process>-<number>`, which commit() renames to the target. A reader of the
/// target sees the old content or the new one, never a mixture. Without commit(), the destructor
/// removes the temporary file; the next atomic_file in the directory removes those of killed
/// processes. Several writers of one target do not disturb each other; the last commit() wins. A
/// target that is a symbolic link is itself replaced. Every failure throws mtp::error.
class atomic_file {
 public:
  /// Makes the temporary file. Throws mtp::error if the directory does not permit it, or if
  /// `target` is neither a regular file nor a new name: a pipe, socket, device or directory, or a
  /// symbolic link to one, is never replaced.
  explicit atomic_file(std::filesystem::path target) : target_(std::move(target)) {
    check(target_.has_filename(), "mtp::io: '", target_.string(), "' is not the name of a file");
    directory_ = detail::open_folder_of(target_);
    check_target();
    detail::remove_leftovers(directory_);
    file_ = detail::make_temporary(directory_, target_.filename().string(), temporary_);
    if (!file_.is_open()) fail_system("create a temporary file for", target_, errno);
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
    put(size_, bytes);
    size_ += bytes.size();
  }

  /// Replaces bytes that were written before.
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
    put(offset, bytes);
  }

  /// Puts the new file in place and syncs it to the disk. Throws mtp::error, also if something
  /// other than a regular file has taken the target's name meanwhile. If only the last step fails,
  /// the sync of the directory, the new file is in place but may not survive a loss of power; after
  /// any other failure the old file is unchanged.
  void commit() {
    check_open();
    check_target();
    sync(file_);
    // Until it is renamed, it must not look like a leftover.
    lock_ = descriptor(::fcntl(file_.get(), F_DUPFD_CLOEXEC, 0));
    if (!lock_.is_open()) fail_system("keep the lock on", target_, errno);
    if (const int code = file_.close(); code != 0) fail_system("close", target_, code);
    if (::renameat(
            directory_.get(), temporary_.c_str(), directory_.get(), target_.filename().c_str()) <
        0) {
      fail_system("rename the temporary file to", target_, errno);
    }
    renamed_ = true;
    sync(directory_);
  }

 private:
  void check_target() const {
    const std::string name = target_.filename().string();
    struct ::stat status {};
    if (::fstatat(directory_.get(), name.c_str(), &status, 0) == 0) {
      if (S_ISDIR(status.st_mode)) fail_system("write", target_, EISDIR);
      check(S_ISREG(status.st_mode),
            "mtp::io: cannot write '",
            target_.string(),
            "': it is ",
            detail::kind_of_file(status.st_mode),
            ", not a regular file");
    } else if (::fstatat(directory_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0 &&
               errno != ENOENT) {  // a link that leads nowhere is replaced as well
      fail_system("write", target_, errno);
    }
  }

  void check_open() const {
    check(file_.is_open(), "mtp::io: '", target_.string(), "' is already committed or closed");
  }

  void put(std::uint64_t offset, std::span<const std::byte> bytes) {
    check_open();
    const int code = detail::write_fully(file_.get(), offset, bytes);
    if (code != 0) fail_system("write", target_, code);
  }

  void sync(const descriptor& what) const {
    // EINVAL: a file system that has nothing to sync here, such as some network ones for
    // directories.
    if (detail::uninterrupted([&] { return ::fsync(what.get()); }) < 0 && errno != EINVAL) {
      fail_system("sync", target_, errno);
    }
  }

  std::filesystem::path target_;
  descriptor directory_;
  std::string temporary_;
  descriptor file_;
  descriptor lock_;  // the same file, while it is renamed
  std::uint64_t size_ = 0;
  bool renamed_ = false;
};

/// Collects small writes into large ones. Only flush() writes the rest, because a destructor could
/// not report a full disk.
class buffered_writer {
 public:
  /// Size of the buffer in bytes.
  static constexpr std::size_t capacity = std::size_t{1} << 20;

  /// `file` must outlive the writer.
  explicit buffered_writer(atomic_file& file) : file_(file) { buffer_.reserve(capacity); }

  /// Appends. Throws mtp::error if writing fails.
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

  /// Writes the collected bytes. Throws mtp::error if writing fails.
  void flush() {
    file_.write(buffer_);
    buffer_.clear();
  }

 private:
  atomic_file& file_;
  std::vector<std::byte> buffer_;
};

}  // namespace mtp::inline MTP_ABI::io
