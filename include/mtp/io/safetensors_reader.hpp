// Reads safetensors files, strictly.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/checksum.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/safetensors_format.hpp"
#include "mtp/io/safetensors_header.hpp"

namespace mtp::inline MTP_ABI::io {

/// Options of the reader.
struct safetensors_options {
  /// Accepts bytes after the last tensor. Some files in circulation have them.
  bool allow_trailing = false;
};

/// A safetensors file, open for reading. The header is checked completely before anything is read
/// or allocated on its basis; the tensors must be contiguous, without gaps or overlap. read() uses
/// no memory map, so a file that shrinks gives an mtp::error. The values stay those of the opened
/// file even if another file replaces it.
class safetensors_file {
 public:
  /// Throws mtp::error with the file, the tensor, what was expected and what was found.
  explicit safetensors_file(std::filesystem::path path, safetensors_options options = {});

  /// The path given to the constructor.
  const std::filesystem::path& path() const { return file_.path(); }
  /// The entries of "__metadata__".
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// The tensors, in the order of the file.
  std::span<const tensor_info> tensors() const { return tensors_; }

  /// The tensor of that name, or nullptr. The pointer is valid as long as this object.
  const tensor_info* find(std::string_view name) const;

  /// Reads the elements [first, first + count) of a tensor of this file to `to`. Any thread may
  /// call it at any time. Throws mtp::error if the range is not inside the tensor, and if the file
  /// cannot be read.
  void read(const tensor_info& tensor, index_t first, index_t count, std::byte* to) const;

  /// The bytes [begin, end) of the data, which tensors count from, as memory: see input_file::map.
  /// Throws mtp::error unless the data have them.
  std::byte* map(std::uint64_t begin, std::uint64_t end) const {
    require(begin <= end && end <= file_.size() - data_offset_,
            "cannot map the bytes [",
            begin,
            ", ",
            end,
            ") of its data");
    return file_.map(data_offset_ + begin, static_cast<std::size_t>(end - begin));
  }

  /// Reads the whole file. Returns true if it has a checksum that matches, false if it has none.
  /// Throws mtp::error if the checksum is wrong or of an unknown kind. Trailing bytes are not part
  /// of the checksum.
  [[nodiscard("safetensors_file::verify: false says that there is no checksum")]] bool verify()
      const;

 private:
  template <class... Parts>
  void require(bool holds, const Parts&... parts) const {
    check(holds, "safetensors_file: '", path().string(), "': ", parts...);
  }
  std::string read_header() const;  // without the eight bytes of its length
  void check_layout(bool allow_trailing);

  input_file file_;
  std::uint64_t data_offset_ = 0;  // bytes
  std::map<std::string, std::string> metadata_;
  std::vector<tensor_info> tensors_;  // ascending in (begin, end, name)
  std::vector<std::size_t> by_name_;  // positions in tensors_, ascending in the name
};

// ---- implementation -----------------------------------------------------------------------------

inline safetensors_file::safetensors_file(std::filesystem::path path, safetensors_options options)
    : file_(std::move(path)) {
  using detail::header_length_bytes;
  require(file_.size() >= header_length_bytes,
          "the file is too small: it has ",
          file_.size(),
          " bytes, expected at least ",
          header_length_bytes);
  std::uint64_t length = 0;
  file_.read_exactly(0, std::as_writable_bytes(std::span(&length, 1)));
  require(length <= detail::max_header_bytes,
          "the header is too large: it claims ",
          length,
          " bytes, at most ",
          detail::max_header_bytes,
          " are allowed");
  require(length <= file_.size() - header_length_bytes,
          "the header is too large: it claims ",
          length,
          " bytes, the file has ",
          file_.size() - header_length_bytes,
          " after its length");
  data_offset_ = header_length_bytes + length;

  detail::header_parser("safetensors_file: '" + file_.path().string() + "': ", metadata_, tensors_)
      .parse(read_header());
  check_layout(options.allow_trailing);
}

inline std::string safetensors_file::read_header() const {
  std::string header(static_cast<std::size_t>(data_offset_ - detail::header_length_bytes), '\0');
  file_.read_exactly(detail::header_length_bytes, std::as_writable_bytes(std::span(header)));
  return header;
}

inline void safetensors_file::check_layout(bool allow_trailing) {
  std::sort(tensors_.begin(), tensors_.end(), [](const tensor_info& a, const tensor_info& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });

  by_name_.resize(tensors_.size());
  std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});
  std::sort(by_name_.begin(), by_name_.end(), [&](std::size_t a, std::size_t b) {
    return tensors_[a].name < tensors_[b].name;
  });
  const auto twice =
      std::adjacent_find(by_name_.begin(), by_name_.end(), [&](std::size_t a, std::size_t b) {
        return tensors_[a].name == tensors_[b].name;
      });
  if (twice != by_name_.end()) require(false, "duplicate key '", tensors_[*twice].name, "'");

  const std::uint64_t data_bytes = file_.size() - data_offset_;
  std::uint64_t previous_end = 0;
  for (const tensor_info& tensor : tensors_) {
    const auto about = [&](bool holds, const auto&... parts) {
      require(holds, "tensor '", tensor.name, "': ", parts...);
    };
    about(tensor.begin <= tensor.end,
          "its data begin at ",
          tensor.begin,
          ", after their end at ",
          tensor.end);
    about(tensor.end <= data_bytes,
          "its data end at ",
          tensor.end,
          ", after the end of the file; the data of the file have ",
          data_bytes,
          " bytes");
    about(
        tensor.begin == previous_end,
        tensor.begin < previous_end ? "its data overlap others" : "there is a gap before its data",
        ": they begin at ",
        tensor.begin,
        ", expected ",
        previous_end);
    const std::optional<index_t> bytes = detail::tensor_bytes(tensor.type, tensor.shape);
    about(bytes.has_value(),
          "the number of bytes of the shape ",
          detail::shape_text(tensor.shape),
          " overflows");
    about(tensor.end - tensor.begin == static_cast<std::uint64_t>(*bytes),
          element_name(tensor.type),
          " ",
          detail::shape_text(tensor.shape),
          " has ",
          *bytes,
          " bytes, the data offsets span ",
          tensor.end - tensor.begin);
    previous_end = tensor.end;
  }
  require(previous_end == data_bytes || allow_trailing,
          "the tensors end at byte ",
          previous_end,
          " of the data, the file at ",
          data_bytes);
}

inline const tensor_info* safetensors_file::find(std::string_view name) const {
  const auto found = std::lower_bound(
      by_name_.begin(), by_name_.end(), name, [&](std::size_t position, std::string_view wanted) {
        return tensors_[position].name < wanted;
      });
  if (found == by_name_.end() || tensors_[*found].name != name) return nullptr;
  return &tensors_[*found];
}

inline void safetensors_file::read(const tensor_info& tensor,
                                   index_t first,
                                   index_t count,
                                   std::byte* to) const {
  require(tensor.begin <= tensor.end && tensor.end <= file_.size() - data_offset_,
          "tensor '",
          tensor.name,
          "' is not of this file");
  require(first >= 0 && count >= 0 && first <= tensor.count() && count <= tensor.count() - first,
          "tensor '",
          tensor.name,
          "': cannot read ",
          count,
          " elements from element ",
          first,
          " on, it has ",
          tensor.count());
  const index_t size = element_size(tensor.type);
  file_.read_exactly(data_offset_ + tensor.begin + static_cast<std::uint64_t>(first * size),
                     std::span(to, static_cast<std::size_t>(count * size)));
}

inline bool safetensors_file::verify() const {
  const auto entry = metadata_.find(std::string(checksum_key));
  if (entry == metadata_.end()) return false;
  const std::string& stored = entry->second;
  require(stored.starts_with(detail::checksum_prefix) &&
              stored.size() == detail::checksum_prefix.size() + detail::checksum_zeros.size(),
          "the checksum '",
          stored,
          "' is not of a known kind, expected 'xxh64:' and 16 digits");

  // In JSON, a quote without a backslash before it begins or ends a string. So this text, after a
  // brace or a comma, is the entry itself, and no other entry can contain it.
  std::string header = read_header();
  const std::string text = "\"" + std::string(checksum_key) + "\":\"" + stored + "\"";
  std::size_t at = header.find(text);
  while (at != std::string::npos && header[at - 1] != '{' && header[at - 1] != ',') {
    at = header.find(text, at + 1);
  }
  require(at != std::string::npos,
          "the header is not as write_safetensors() writes it; the checksum does not apply");
  header.replace(at + text.size() - 1 - detail::checksum_zeros.size(),
                 detail::checksum_zeros.size(),
                 detail::checksum_zeros);

  xxh64 checksum;
  const std::uint64_t length = header.size();
  checksum.update(std::as_bytes(std::span(&length, 1)));
  checksum.update(std::as_bytes(std::span(header)));
  std::vector<std::byte> chunk(static_cast<std::size_t>(detail::chunk_bytes));
  const std::uint64_t end = tensors_.empty() ? 0 : tensors_.back().end;
  for (std::uint64_t first = 0; first < end; first += chunk.size()) {
    const auto piece =
        std::span(chunk).first((std::min)(chunk.size(), static_cast<std::size_t>(end - first)));
    file_.read_exactly(data_offset_ + first, piece);
    checksum.update(piece);
  }

  const std::string found = std::string(detail::checksum_prefix) + to_hex(checksum.digest());
  require(found == stored, "the checksum is wrong: expected '", stored, "', got '", found, "'");
  return true;
}

}  // namespace mtp::inline MTP_ABI::io
