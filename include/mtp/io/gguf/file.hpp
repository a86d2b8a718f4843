// Reads GGUF files, strictly.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/gguf/cursor.hpp"
#include "mtp/io/gguf/dequantize.hpp"
#include "mtp/io/gguf/format.hpp"
#include "mtp/io/gguf/metadata.hpp"
#include "mtp/io/gguf/read_values.hpp"

namespace mtp::inline MTP_ABI::io {

/// Options of the reader.
struct gguf_options {
  /// Accepts bytes after the last tensor and its padding.
  bool allow_trailing = false;
};

/// A GGUF file of version 2 or 3, little-endian, open for reading. The header is checked completely
/// before a tensor is read: counts and lengths against what is left of the file before anything is
/// allocated, keys and names for duplicates, and each tensor for its place, which is the next
/// multiple of the alignment behind the tensor before. Reading uses no memory map, so a file that
/// shrinks gives an mtp::error. The values stay those of the opened file even if another replaces
/// it.
///
/// The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
class gguf_file {
 public:
  /// Throws mtp::error with the file, the key or tensor, what was expected and what was found; for
  /// a tensor of a type that gguf_type lacks, with the type's name.
  explicit gguf_file(std::filesystem::path path, gguf_options options = {});

  /// The path given to the constructor.
  const std::filesystem::path& path() const { return file_.path(); }
  /// The metadata.
  const gguf_metadata& metadata() const { return metadata_; }
  /// The tensors, in the order of the file.
  std::span<const gguf_tensor> tensors() const { return tensors_; }

  /// The tensor of that name, or nullptr. The pointer is valid as long as this object.
  const gguf_tensor* find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &tensors_[found->second];
  }

  /// to[i] (=) value first + i of a tensor of this file, in row-major order, as dequantize says.
  /// Any thread may call it at any time. Throws mtp::error if the range is not inside the tensor,
  /// and if the file cannot be read.
  void read(const gguf_tensor& tensor, index_t first, index_t count, float* to) const;

 private:
  using cursor = detail::gguf_cursor;

  template <class... Parts>
  void require(bool holds, const Parts&... parts) const {
    check(holds, "gguf_file: '", path().string(), "': ", parts...);
  }
  void read_header(gguf_options options);
  void read_value(cursor& from);
  void read_tensor(cursor& from);
  std::uint64_t read_alignment() const;

  input_file file_;
  std::uint64_t data_offset_ = 0;  // bytes
  gguf_metadata metadata_;
  std::vector<gguf_tensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;  // places in tensors_
};

// ---- implementation -----------------------------------------------------------------------------

inline gguf_file::gguf_file(std::filesystem::path path, gguf_options options)
    : file_(std::move(path)), metadata_("gguf_file: '" + file_.path().string() + "': ") {
  read_header(options);
}

inline void gguf_file::read_header(gguf_options options) {
  cursor from(file_);
  require(file_.size() >= detail::gguf_head_bytes,
          "the file is too small: it has ",
          file_.size(),
          " bytes, expected at least ",
          detail::gguf_head_bytes);
  std::string magic(detail::gguf_magic.size(), '\0');
  for (char& each : magic) each = from.number<char>("magic");
  require(magic == detail::gguf_magic, "the file does not begin with ", detail::gguf_magic);
  const auto version = from.number<std::uint32_t>("version");
  require((version & 0xffffu) != 0, "big-endian files are not supported");
  require(version == 2 || version == 3, "expected version 2 or 3, got ", version);
  const auto tensors = from.count(detail::gguf_min_tensor_bytes, "the number of tensors");
  const auto values = from.count(detail::gguf_min_value_bytes, "the number of metadata values");

  for (std::uint64_t i = 0; i < values; ++i) read_value(from);
  from.fitting(tensors, detail::gguf_min_tensor_bytes, "the number of tensors");
  tensors_.reserve(static_cast<std::size_t>(tensors));
  const std::uint64_t alignment = read_alignment();
  for (std::uint64_t i = 0; i < tensors; ++i) read_tensor(from);

  const auto aligned = [&](std::uint64_t bytes) {
    return (bytes + alignment - 1) / alignment * alignment;
  };
  data_offset_ = aligned(from.offset());
  const std::uint64_t data_bytes = file_.size() - (std::min)(file_.size(), data_offset_);
  std::uint64_t next = 0;
  for (const gguf_tensor& tensor : tensors_) {
    require(tensor.begin == next,
            "tensor '",
            tensor.name,
            "': its data begin at ",
            tensor.begin,
            ", expected ",
            next,
            ", the next multiple of ",
            alignment,
            " behind the tensor before");
    require(next <= data_bytes && tensor.bytes <= data_bytes - next,
            "tensor '",
            tensor.name,
            "': its data end behind the file: they have ",
            tensor.bytes,
            " bytes from ",
            next,
            " on, the data of the file ",
            data_bytes);
    next = aligned(next + tensor.bytes);
  }
  require(data_bytes <= next || options.allow_trailing,
          "the tensors end at byte ",
          next,
          " of the data, the file at ",
          data_bytes);
}

inline void gguf_file::read_value(cursor& from) {
  std::string key = from.text("a key");
  require(!key.empty() && key.size() <= detail::gguf_max_key_bytes,
          "expected keys of 1 to ",
          detail::gguf_max_key_bytes,
          " bytes, got one of ",
          key.size());
  const auto type = detail::gguf_value_type_of(from, from.number<std::uint32_t>(key), key);
  gguf_value value;
  if (type == detail::gguf_value_type::array) {
    value = detail::read_gguf_array(from, key);
  } else if (type == detail::gguf_value_type::string) {
    value = from.text(key);
  } else {
    value = detail::read_gguf_wide(
        from, type, 1, key, [](const auto& one) -> gguf_value { return one.front(); });
    if (type == detail::gguf_value_type::boolean) value = std::get<std::uint64_t>(value) == 1;
  }
  const std::string shown = key;
  require(metadata_.add(std::move(key), std::move(value)), "duplicate key '", shown, "'");
}

inline std::uint64_t gguf_file::read_alignment() const {
  const std::uint64_t alignment =
      metadata_.count("general.alignment").value_or(detail::gguf_default_alignment);
  require(
      alignment >= 8 && alignment <= detail::gguf_max_alignment && std::has_single_bit(alignment),
      "general.alignment: expected a power of two from 8 to ",
      detail::gguf_max_alignment,
      ", got ",
      alignment);
  return alignment;
}

inline void gguf_file::read_tensor(cursor& from) {
  gguf_tensor tensor;
  tensor.name = from.text("the name of a tensor");
  require(!tensor.name.empty() && tensor.name.size() <= detail::gguf_max_name_bytes,
          "expected names of tensors of 1 to ",
          detail::gguf_max_name_bytes,
          " bytes, got one of ",
          tensor.name.size());
  const std::string what = "tensor '" + tensor.name + "'";
  require(by_name_.emplace(tensor.name, tensors_.size()).second,
          "two tensors are named '",
          tensor.name,
          "'");

  const auto rank = from.number<std::uint32_t>(what);
  require(rank >= 1 && rank <= detail::gguf_max_rank,
          what,
          ": expected 1 to ",
          detail::gguf_max_rank,
          " dimensions, got ",
          rank);
  tensor.shape.resize(rank);
  tensor.count = 1;
  for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) {
    *size = from.number<index_t>(what);
    require(*size >= 1, what, ": expected positive sizes, got ", *size);
    require(!__builtin_mul_overflow(tensor.count, *size, &tensor.count),
            what,
            ": the number of its elements overflows");
  }

  const auto number = from.number<std::uint32_t>(what);
  const detail::gguf_type_row* const row = detail::gguf_row_of(number);
  const std::string type =
      row == nullptr ? "the unknown type " + std::to_string(number) : std::string(row->name);
  require(row != nullptr && row->block > 0,
          what,
          ": expected ",
          detail::gguf_readable_types(),
          ", got ",
          type);
  tensor.type = static_cast<gguf_type>(number);
  require(tensor.shape.back() % row->block == 0,
          what,
          ": expected rows of a multiple of ",
          row->block,
          " elements for ",
          type,
          ", got ",
          tensor.shape.back());
  index_t bytes = 0;
  require(!__builtin_mul_overflow(tensor.count / row->block, row->bytes, &bytes),
          what,
          ": the number of its bytes overflows");
  tensor.bytes = static_cast<std::uint64_t>(bytes);
  tensor.begin = from.number<std::uint64_t>(what);
  tensors_.push_back(std::move(tensor));
}

inline void gguf_file::read(const gguf_tensor& tensor,
                            index_t first,
                            index_t count,
                            float* to) const {
  require(find(tensor.name) == &tensor, "tensor '", tensor.name, "' is not of this file");
  require(first >= 0 && count >= 0 && first <= tensor.count && count <= tensor.count - first,
          "tensor '",
          tensor.name,
          "': cannot read ",
          count,
          " elements from element ",
          first,
          " on, it has ",
          tensor.count);
  const detail::gguf_type_row& row = detail::gguf_row_of(tensor.type);
  constexpr index_t most = index_t{1} << 16;  // elements at a time, a multiple of any block
  std::vector<std::byte> bytes;
  std::vector<float> values;
  while (count > 0) {
    const index_t before = first % row.block;  // elements of the first block that are not wanted
    const index_t some = (std::min)(most, count);
    const index_t blocks = ceil_div(before + some, row.block);
    bytes.resize(static_cast<std::size_t>(blocks * row.bytes));
    values.resize(static_cast<std::size_t>(blocks * row.block));
    file_.read_exactly(
        data_offset_ + tensor.begin + static_cast<std::uint64_t>(first / row.block * row.bytes),
        bytes);
    dequantize(tensor.type, bytes.data(), blocks * row.block, values.data());
    std::copy_n(values.data() + before, some, to);
    first += some;
    count -= some;
    to += some;
  }
}

}  // namespace mtp::inline MTP_ABI::io
