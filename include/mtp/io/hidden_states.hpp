// Hidden states of a text in a file: computed once, block by block, then mapped into memory.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/checksum.hpp"
#include "mtp/io/descriptor.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/hidden_states_header.hpp"

namespace mtp::inline MTP_ABI::io {

/// A file of rows [N, C] in bf16 that belongs to one model, one text and one configuration. Blocks
/// are appended in order. A block counts once its data is on the disk and its checksum behind it,
/// so a writer may be killed at any time, and the next one goes on where it stood.
///
/// During its life no other object opens the file, in this process or another, on file systems that
/// have locks. A program that cuts the file while it is mapped ends with SIGBUS whoever reads it.
class hidden_states_file {
 public:
  /// Opens a file, or makes it if there is none, and reads every block that it has. Throws
  /// mtp::error, with the file unchanged, if it is not of this kind, version, origin and shape, if
  /// any byte is damaged, if another object has it open, and if it cannot be read.
  hidden_states_file(std::filesystem::path path,
                     const hidden_states_shape& shape,
                     const hidden_states_origin& origin)
      : path_(std::move(path)), header_(detail::hidden_states_header::make(shape, origin)) {
    check(shape.rows > 0 && shape.width > 0 && shape.block > 0,
          "hidden_states_file: expected positive rows, width and block, got ",
          shape.rows,
          ", ",
          shape.width,
          " and ",
          shape.block);
    constexpr index_t most = (index_t{1} << 48) / index_t{sizeof(bf16)};
    check(shape.rows <= most / shape.width,
          "hidden_states_file: ",
          shape.rows,
          " rows of ",
          shape.width,
          " elements do not fit into a file");
    std::error_code ignored;
    const auto status = std::filesystem::symlink_status(path_, ignored);
    if (status.type() == std::filesystem::file_type::not_found) make();
    open();
    check_header();
    read_blocks();
  }
  hidden_states_file(const hidden_states_file&) = delete;
  hidden_states_file& operator=(const hidden_states_file&) = delete;
  ~hidden_states_file() {
    if (mapped_ != nullptr) ::munmap(mapped_, mapped_bytes_);
  }

  /// Blocks in all.
  index_t blocks() const { return ceil_div(header_.shape.rows, header_.shape.block); }
  /// Blocks that are there: the next append is of block written().
  index_t written() const { return written_; }
  /// Whether all of them are there.
  bool complete() const { return written_ == blocks(); }
  /// Rows of a block; the last may have fewer than the others.
  index_t rows_of(index_t block) const {
    return (std::min)(header_.shape.block, header_.shape.rows - block * header_.shape.block);
  }

  /// Appends block written(), [rows_of(written()), C]. Throws mtp::error for another number of
  /// elements, if the file is complete, and if writing fails; the block then does not count, and
  /// the file can be opened again.
  void append(std::span<const bf16> rows) {
    check(!complete(), "hidden_states_file: '", path_.string(), "' has all of its blocks");
    const index_t count = rows_of(written_) * header_.shape.width;
    check(static_cast<index_t>(rows.size()) == count,
          "hidden_states_file: block ",
          written_,
          " has ",
          count,
          " elements, got ",
          rows.size());
    const auto bytes = std::as_bytes(rows);
    write_at(place_of(written_), bytes);
    // The checksum must not reach the disk before what it is of.
    if (detail::uninterrupted([&] { return ::fdatasync(file_.get()); }) < 0) {
      fail_system("sync", path_, errno);
    }
    const auto entry = detail::hidden_states_entry::of(bytes, written_, header_);
    write_at(entry_place(written_), std::as_bytes(std::span(&entry, 1)));
    ++written_;
  }

  /// All rows, mapped into memory; valid as long as the object.  [N, C]. Throws mtp::error unless
  /// the file is complete, and if it cannot be mapped.
  std::span<const bf16> rows() {
    check(complete(),
          "hidden_states_file: '",
          path_.string(),
          "' has ",
          written_,
          " of ",
          blocks(),
          " blocks");
    const auto count = static_cast<std::size_t>(header_.shape.rows * header_.shape.width);
    const std::uint64_t begin = place_of(0);
    if (mapped_ == nullptr) {
      const std::size_t bytes = static_cast<std::size_t>(begin) + count * sizeof(bf16);
      void* const memory = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file_.get(), 0);
      if (memory == MAP_FAILED) fail_system("map", path_, errno);
      mapped_ = memory;
      mapped_bytes_ = bytes;
    }
    const auto* const data = static_cast<const std::byte*>(mapped_) + begin;
    return {reinterpret_cast<const bf16*>(data), count};
  }

 private:
  static constexpr std::uint64_t page = 4096;
  static constexpr const char* help = "; remove it to compute the hidden states anew";

  static std::uint64_t bytes_of(index_t value) { return static_cast<std::uint64_t>(value); }
  std::uint64_t entry_place(index_t block) const {
    return page + bytes_of(block) * sizeof(detail::hidden_states_entry);
  }
  std::uint64_t place_of(index_t block) const {
    const std::uint64_t begin = (entry_place(blocks()) + page - 1) / page * page;
    return begin + bytes_of(block * header_.shape.block * header_.shape.width) * sizeof(bf16);
  }

  /// The header and an empty table, whole or not at all.
  void make() const {
    std::vector<std::byte> bytes(static_cast<std::size_t>(place_of(0)));
    std::memcpy(bytes.data(), &header_, sizeof(header_));
    atomic_file file(path_);
    file.write(bytes);
    file.commit();
  }

  void open() {
    file_ = descriptor(detail::uninterrupted(
        [&] { return ::open(path_.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK); }));
    if (!file_.is_open()) fail_system("open", path_, errno);
    struct ::stat status {};
    if (::fstat(file_.get(), &status) < 0) fail_system("stat", path_, errno);
    check(S_ISREG(status.st_mode),
          "hidden_states_file: '",
          path_.string(),
          "' is ",
          detail::kind_of_file(status.st_mode),
          ", not a regular file");
    check(detail::try_lock(file_) != detail::lock_result::held_by_another,
          "hidden_states_file: '",
          path_.string(),
          "' is in use by another program");
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  void check_header() const {
    detail::hidden_states_header found;
    check(size_ >= sizeof(found) && read_at(0, std::as_writable_bytes(std::span(&found, 1))),
          "hidden_states_file: '",
          path_.string(),
          "' is no file of hidden states: it has ",
          size_,
          " bytes");
    header_.check_same(found, path_);
    check(size_ >= place_of(0),
          "hidden_states_file: '",
          path_.string(),
          "' is damaged: its table of blocks ends too early",
          help);
    std::vector<std::byte> rest(page - sizeof(found));
    check(read_at(sizeof(found), rest) &&
              std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == std::byte{0}; }),
          "hidden_states_file: '",
          path_.string(),
          "' is damaged behind its header",
          help);
  }

  /// Counts the blocks that are there, and compares all of them with their checksums.
  void read_blocks() {
    std::vector<detail::hidden_states_entry> table(static_cast<std::size_t>(
        (place_of(0) - page) / sizeof(detail::hidden_states_entry)));  // what is behind is zero
    const bool read = read_at(page, std::as_writable_bytes(std::span(table)));
    std::vector<std::byte> bytes;
    const auto damaged = [&](index_t block) {
      fail("hidden_states_file: '", path_.string(), "' is damaged in block ", block, help);
    };
    index_t count = 0;
    while (count < blocks() && !table[static_cast<std::size_t>(count)].is_empty()) ++count;
    for (std::size_t i = static_cast<std::size_t>(count); i < table.size(); ++i) {
      if (!read || !table[i].is_empty()) damaged(static_cast<index_t>(i));
    }
    for (index_t block = 0; block < count; ++block) {
      bytes.resize(static_cast<std::size_t>(rows_of(block) * header_.shape.width) * sizeof(bf16));
      if (!read_at(place_of(block), bytes) ||
          table[static_cast<std::size_t>(block)] !=
              detail::hidden_states_entry::of(bytes, block, header_)) {
        damaged(block);
      }
    }
    // A killed writer leaves a part of one block, and a complete file has nothing behind it.
    const index_t next = (std::min)(count + 1, blocks());
    const index_t rows = (std::min)(next * header_.shape.block, header_.shape.rows);
    check(size_ <= place_of(0) + bytes_of(rows * header_.shape.width) * sizeof(bf16),
          "hidden_states_file: '",
          path_.string(),
          "' is damaged: it has ",
          size_,
          " bytes with ",
          count,
          " blocks",
          help);
    written_ = count;
  }

  /// False if the file ends earlier.
  bool read_at(std::uint64_t offset, std::span<std::byte> to) const {
    std::size_t done = 0;
    while (done < to.size()) {
      const ::ssize_t got = detail::uninterrupted([&] {
        return ::pread(
            file_.get(), to.data() + done, to.size() - done, static_cast<::off_t>(offset + done));
      });
      if (got < 0) fail_system("read", path_, errno);
      if (got == 0) return false;
      done += static_cast<std::size_t>(got);
    }
    return true;
  }

  void write_at(std::uint64_t offset, std::span<const std::byte> bytes) const {
    const int code = detail::write_fully(file_.get(), offset, bytes);
    if (code != 0) fail_system("write", path_, code);
  }

  std::filesystem::path path_;
  detail::hidden_states_header header_;
  descriptor file_;
  std::uint64_t size_ = 0;  // when it was opened
  index_t written_ = 0;     // blocks
  void* mapped_ = nullptr;
  std::size_t mapped_bytes_ = 0;
};

}  // namespace mtp::inline MTP_ABI::io
