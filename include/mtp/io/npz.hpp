// Reads and writes several tensors as NumPy's .npz files: zip archives of uncompressed .npy files.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/equality.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/operand.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/npy.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

/// The checksum of zip archives: CRC-32 with the polynomial 0xedb88320, bits reflected.
class crc32 {
 public:
  /// Appends bytes.
  void update(std::span<const std::byte> bytes) {
    for (const std::byte each : bytes) {
      state_ = table[(state_ ^ static_cast<std::uint32_t>(each)) & 0xffu] ^ (state_ >> 8);
    }
  }
  /// The checksum of all bytes so far.
  std::uint32_t digest() const { return ~state_; }

 private:
  static constexpr std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> made{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      made[i] = i;
      for (int bit = 0; bit < 8; ++bit) {
        made[i] = (made[i] >> 1) ^ ((made[i] & 1u) != 0 ? 0xedb88320u : 0u);
      }
    }
    return made;
  }();

  std::uint32_t state_ = ~std::uint32_t{0};
};

// Records of a zip archive, from the signature on (APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and
// 4.3.16).
inline constexpr std::uint32_t zip_local = 0x04034b50, zip_central = 0x02014b50,
                               zip_end = 0x06054b50;
inline constexpr std::size_t zip_local_bytes = 30, zip_central_bytes = 46, zip_end_bytes = 22;
inline constexpr std::uint64_t zip_most = 0xffff'fffe;  // 0xffffffff stands for zip64

/// Little-endian numbers of a record.
class zip_record {
 public:
  explicit zip_record(std::size_t bytes) : bytes_(bytes) {}
  explicit zip_record(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}

  std::uint64_t get(std::size_t at, std::size_t size) const {
    std::uint64_t value = 0;
    for (std::size_t i = size; i-- > 0;) {
      value = value << 8 | static_cast<std::uint64_t>(bytes_[at + i]);
    }
    return value;
  }
  void put(std::size_t at, std::size_t size, std::uint64_t value) {
    for (std::size_t i = 0; i < size; ++i) {
      bytes_[at + i] = static_cast<std::byte>(value >> (8 * i) & 0xff);
    }
  }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::span<std::byte> bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// A file in an archive.
struct zip_entry {
  std::string name;  // "w.npy"
  std::uint64_t method = 0, flags = 0, crc = 0, stored = 0, size = 0, local = 0;
};

}  // namespace detail

/// An .npz file, open for reading. The directory is checked completely when the file is opened, an
/// array and its checksum when it is loaded.
///
/// It reads what np.savez writes. It refuses compressed arrays (np.savez_compressed), encrypted
/// ones, archives on several disks, zip64, files that begin or end with something else, and entries
/// that overlap.
class npz_file {
 public:
  /// Throws mtp::error if the file is not such an archive.
  explicit npz_file(std::filesystem::path path);

  /// The path given to the constructor.
  const std::filesystem::path& path() const { return file_.path(); }
  /// The names of all arrays, without ".npy", in the order of the file.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : entries_) {
      all.push_back(array_name(entry.name));
    }
    return all;
  }
  /// Whether there is an array of that name.
  bool contains(std::string_view name) const { return find(name) != nullptr; }

  /// Loads the array of that name like load_npy. Throws mtp::error as load_npy does, and for a
  /// missing name, an array that is not stored uncompressed, and a wrong checksum.
  template <class Element, extents_type Shape, class Backend>
  [[nodiscard]] tensor<Element, Shape, Backend> load(std::string_view name) const {
    const detail::zip_entry* const entry = find(name);
    require(entry != nullptr, "there is no array '", name, "'");
    const std::uint64_t offset = check_entry(*entry);
    const std::string where = "npz_file: '" + path().string() + "': '" + std::string(name) + "': ";
    const auto array = detail::open_npy(where, file_, offset, entry->size);
    return detail::tensor_of_npy<Element, Shape, Backend>(where, file_, array);
  }

 private:
  template <class... Parts>
  void require(bool holds, const Parts&... parts) const {
    check(holds, "npz_file: '", path().string(), "': ", parts...);
  }
  detail::zip_record read(std::uint64_t offset, std::size_t bytes) const {
    detail::zip_record record(bytes);
    file_.read_exactly(offset, record.bytes());
    return record;
  }
  static std::string array_name(const std::string& name) {
    return name.ends_with(".npy") ? name.substr(0, name.size() - 4) : name;
  }
  const detail::zip_entry* find(std::string_view name) const {
    for (const auto& entry : entries_) {
      if (array_name(entry.name) == name) return &entry;
    }
    return nullptr;
  }
  void read_directory(std::uint64_t begin, std::uint64_t end, std::uint64_t count);
  std::uint64_t check_entry(const detail::zip_entry& entry) const;

  input_file file_;
  std::uint64_t directory_ = 0;  // where the central directory begins
  std::vector<detail::zip_entry> entries_;
};

/// Writes an .npz file, array by array, whole or not at all: commit() puts the file in place.
/// np.load reads it. The same arrays give the same bytes.
class npz_writer {
 public:
  /// Throws mtp::error if no file can be made in the directory.
  explicit npz_writer(std::filesystem::path path)
      : where_("npz_writer: '" + path.string() + "': "), file_(std::move(path)), writer_(file_) {}

  /// Adds a tensor or view under a name, with elements as save_npy writes them. Throws mtp::error,
  /// with nothing added, for an empty name, a name that was added before, sizes beyond 4 GiB, which
  /// this kind of archive cannot hold, and when the disk is full.
  template <mtp::detail::operand X>
  void add(std::string_view name, const X& x) {
    mtp::detail::with_host_view(x, [&](const auto& elements) {
      using value_type = typename std::remove_cvref_t<decltype(elements)>::value_type;
      const std::string header = detail::npy_header_of(elements);
      const auto width =
          static_cast<std::uint64_t>(detail::npy_element_size(detail::npy_type<value_type>()));
      const auto count = static_cast<std::uint64_t>(elements.count());
      check(count <= detail::zip_most / width, where_, "'", name, "' is larger than 4 GiB");
      detail::crc32 crc;
      crc.update(std::as_bytes(std::span(header)));
      detail::write_npy_elements(elements, [&](auto bytes) { crc.update(bytes); });
      begin_entry(name, header.size() + count * width, crc.digest());
      writer_.write(header);
      detail::write_npy_elements(elements, [&](auto bytes) { writer_.write(bytes); });
    });
  }

  /// Puts the file in place. Throws mtp::error if writing fails; an earlier file is then unchanged.
  void commit();

 private:
  void begin_entry(std::string_view name, std::uint64_t size, std::uint32_t crc);
  static void describe(detail::zip_record& record, std::size_t at, const detail::zip_entry& entry);

  std::string where_;
  atomic_file file_;
  buffered_writer writer_;
  std::uint64_t written_ = 0;  // bytes, those of the writer included
  std::vector<detail::zip_entry> entries_;
};

// ---- implementation -----------------------------------------------------------------------------

inline npz_file::npz_file(std::filesystem::path path) : file_(std::move(path)) {
  using detail::zip_end_bytes;
  const std::uint64_t size = file_.size();
  require(size >= zip_end_bytes, "not an npz file: it has ", size, " bytes");
  // The end record is the last one whose comment reaches the end of the file.
  const auto most =
      static_cast<std::size_t>((std::min<std::uint64_t>)(size, zip_end_bytes + 0xffff));
  const auto tail = read(size - most, most);
  std::size_t at = most - zip_end_bytes + 1;
  do {
    require(at > 0, "not an npz file: it has no end record of a zip archive");
    --at;
  } while (tail.get(at, 4) != detail::zip_end || at + zip_end_bytes + tail.get(at + 20, 2) != most);
  const std::uint64_t count = tail.get(at + 10, 2), bytes = tail.get(at + 12, 4),
                      offset = tail.get(at + 16, 4), end = size - most + at;
  require(count != 0xffff && bytes != 0xffff'ffff && offset != 0xffff'ffff,
          "zip64 archives are not read");
  require(tail.get(at + 4, 2) == 0 && tail.get(at + 6, 2) == 0 && tail.get(at + 8, 2) == count,
          "archives of several disks are not read");
  require(offset <= end && bytes == end - offset,
          "the directory claims ",
          bytes,
          " bytes from ",
          offset,
          " on, but its end record stands at ",
          end);
  directory_ = offset;
  read_directory(offset, end, count);
}

inline void npz_file::read_directory(std::uint64_t begin, std::uint64_t end, std::uint64_t count) {
  using detail::zip_central_bytes;
  require(count <= (end - begin) / zip_central_bytes,
          "the directory is too short for ",
          count,
          " entries");
  const auto directory = read(begin, static_cast<std::size_t>(end - begin));
  std::size_t at = 0;
  const std::size_t size = directory.bytes().size();
  for (std::uint64_t i = 0; i < count; ++i) {
    require(size - at >= zip_central_bytes && directory.get(at, 4) == detail::zip_central,
            "entry ",
            i,
            " of the directory is damaged");
    const auto name_bytes = static_cast<std::size_t>(directory.get(at + 28, 2));
    const auto other_bytes =
        static_cast<std::size_t>(directory.get(at + 30, 2) + directory.get(at + 32, 2));
    require(name_bytes + other_bytes <= size - at - zip_central_bytes,
            "entry ",
            i,
            " of the directory ends behind it");
    detail::zip_entry entry;
    entry.flags = directory.get(at + 8, 2);
    entry.method = directory.get(at + 10, 2);
    entry.crc = directory.get(at + 16, 4);
    entry.stored = directory.get(at + 20, 4);
    entry.size = directory.get(at + 24, 4);
    entry.local = directory.get(at + 42, 4);
    entry.name.resize(name_bytes);
    std::memcpy(entry.name.data(), directory.bytes().data() + at + zip_central_bytes, name_bytes);
    require(entry.stored <= detail::zip_most && entry.size <= detail::zip_most &&
                entry.local <= detail::zip_most,
            "'",
            entry.name,
            "' is a zip64 entry, which is not read");
    require(!contains(array_name(entry.name)), "two arrays are named '", entry.name, "'");
    entries_.push_back(std::move(entry));
    at += zip_central_bytes + name_bytes + other_bytes;
  }
  require(at == size, "the directory is longer than its ", count, " entries");

  // Headers and contents do not overlap, and all are before the directory.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> places;
  for (const auto& entry : entries_) {
    places.emplace_back(entry.local,
                        entry.local + detail::zip_local_bytes + entry.name.size() + entry.stored);
  }
  std::sort(places.begin(), places.end());
  std::uint64_t last = 0;
  for (const auto& [first, behind] : places) {
    require(first >= last && behind <= directory_, "entries overlap or leave the file");
    last = behind;
  }
}

inline std::uint64_t npz_file::check_entry(const detail::zip_entry& entry) const {
  using detail::zip_local_bytes;
  require((entry.flags & 1u) == 0, "'", entry.name, "' is encrypted");
  require(
      entry.method != 8,
      "'",
      entry.name,
      "' is deflated, as np.savez_compressed writes it; np.savez stores arrays as they are read");
  require(entry.method == 0, "'", entry.name, "' is compressed by method ", entry.method);
  require(entry.stored == entry.size, "'", entry.name, "' is stored, but its two sizes differ");
  const auto local = read(entry.local, zip_local_bytes);
  const std::uint64_t name_bytes = local.get(26, 2), extra = local.get(28, 2);
  const std::uint64_t begin = entry.local + zip_local_bytes + name_bytes + extra;
  require(local.get(0, 4) == detail::zip_local && local.get(8, 2) == entry.method &&
              name_bytes == entry.name.size(),
          "'",
          entry.name,
          "' has no header that fits the directory");
  require(begin <= directory_ && entry.size <= directory_ - begin,
          "'",
          entry.name,
          "' reaches into the directory");
  std::string name(entry.name.size(), '\0');
  file_.read_exactly(entry.local + zip_local_bytes, std::as_writable_bytes(std::span(name)));
  require(name == entry.name, "'", entry.name, "' has another name in front of its contents");
  detail::crc32 crc;
  std::vector<std::byte> chunk(static_cast<std::size_t>(detail::chunk_bytes));
  for (std::uint64_t done = 0; done < entry.size; done += chunk.size()) {
    const auto piece = std::span(chunk).first(
        static_cast<std::size_t>((std::min<std::uint64_t>)(chunk.size(), entry.size - done)));
    file_.read_exactly(begin + done, piece);
    crc.update(piece);
  }
  require(crc.digest() == entry.crc, "'", entry.name, "' is damaged: its checksum is wrong");
  return begin;
}

inline void npz_writer::describe(detail::zip_record& record,
                                 std::size_t at,
                                 const detail::zip_entry& entry) {
  record.put(at, 2, 20);  // version 2.0 of the format
  record.put(at + 2, 2, entry.flags);
  record.put(at + 8, 2, 0x21);  // the earliest date of the format: 1980-01-01
  record.put(at + 10, 4, entry.crc);
  record.put(at + 14, 4, entry.size);
  record.put(at + 18, 4, entry.size);
  record.put(at + 22, 2, entry.name.size());
}

inline void npz_writer::begin_entry(std::string_view name, std::uint64_t size, std::uint32_t crc) {
  detail::zip_entry entry;
  entry.name = std::string(name) + ".npy";
  entry.crc = crc;
  entry.stored = entry.size = size;
  entry.local = written_;
  const bool ascii = std::all_of(name.begin(), name.end(), [](char c) { return c > 0 && c < 127; });
  entry.flags = ascii ? 0 : 1u << 11;  // the name is UTF-8
  check(!name.empty() && entry.name.size() < 0xffff, where_, "expected a name of 1 to 65530 bytes");
  check(std::none_of(entries_.begin(),
                     entries_.end(),
                     [&](const auto& other) { return other.name == entry.name; }),
        where_,
        "two arrays are named '",
        name,
        "'");
  const std::uint64_t end = written_ + detail::zip_local_bytes + entry.name.size() + size;
  check(end <= detail::zip_most && entries_.size() < 0xfffe,
        where_,
        "with '",
        name,
        "' the archive is larger than 4 GiB or has more than 65534 arrays");
  detail::zip_record record(detail::zip_local_bytes);
  record.put(0, 4, detail::zip_local);
  describe(record, 4, entry);
  writer_.write(record.bytes());
  writer_.write(entry.name);
  written_ = end;
  entries_.push_back(std::move(entry));
}

inline void npz_writer::commit() {
  std::uint64_t bytes = 0;
  for (const auto& entry : entries_) {
    detail::zip_record record(detail::zip_central_bytes);
    record.put(0, 4, detail::zip_central);
    record.put(4, 2, 20);
    describe(record, 6, entry);
    record.put(42, 4, entry.local);
    writer_.write(record.bytes());
    writer_.write(entry.name);
    bytes += detail::zip_central_bytes + entry.name.size();
  }
  check(written_ + bytes <= detail::zip_most, where_, "the archive is larger than 4 GiB");
  detail::zip_record record(detail::zip_end_bytes);
  record.put(0, 4, detail::zip_end);
  record.put(8, 2, entries_.size());
  record.put(10, 2, entries_.size());
  record.put(12, 4, bytes);
  record.put(16, 4, written_);
  writer_.write(record.bytes());
  writer_.flush();
  file_.commit();
}

}  // namespace mtp::inline MTP_ABI::io
