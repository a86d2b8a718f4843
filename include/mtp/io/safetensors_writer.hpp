// Writes tensors to safetensors files, whole or not at all.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/checksum.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/safetensors_format.hpp"

namespace mtp::inline MTP_ABI::io {

/// A tensor to write.
struct tensor_source {
  std::string name;             ///< unique in a file
  element type = element::f32;  ///< of its elements
  std::vector<index_t> shape;   ///< row-major, the last index varies fastest
  /// Writes the elements [first, first + count), in row-major order, to `to`. It is called with
  /// ascending `first`, for every element exactly once.
  std::function<void(index_t first, index_t count, std::byte* to)> read;
};

namespace detail {

/// The order of the tensors in the file: largest elements first, without gaps. The n-th is
/// order[n].
struct data_layout {
  std::vector<std::size_t> order;  // positions in the sources
  std::vector<tensor_info> tensors;
};

inline data_layout lay_out(const std::string& where, std::span<const tensor_source> sources) {
  data_layout layout;
  layout.order.resize(sources.size());
  std::iota(layout.order.begin(), layout.order.end(), std::size_t{0});
  std::stable_sort(layout.order.begin(), layout.order.end(), [&](std::size_t a, std::size_t b) {
    return element_size(sources[a].type) > element_size(sources[b].type);
  });

  std::vector<std::string_view> names;
  std::uint64_t offset = 0;
  for (const std::size_t position : layout.order) {
    const tensor_source& source = sources[position];
    const auto require = [&](bool holds, const auto&... parts) {
      check(holds, where, "tensor '", source.name, "': ", parts...);
    };
    require(source.name != metadata_name, "this name is reserved");
    require(source.read != nullptr, "has no function to read it");
    require(std::all_of(source.shape.begin(), source.shape.end(), [](index_t n) { return n >= 0; }),
            "the shape ",
            shape_text(source.shape),
            " has a negative size");
    const std::optional<index_t> bytes = tensor_bytes(source.type, source.shape);
    const std::uint64_t end = offset + static_cast<std::uint64_t>(bytes.value_or(0));
    require(bytes.has_value() && end <= max_offset - max_header_bytes - header_length_bytes,
            "the shape ",
            shape_text(source.shape),
            " is too large");
    layout.tensors.push_back({source.name, source.type, source.shape, offset, end});
    names.push_back(source.name);
    offset = end;
  }

  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) fail(where, "two tensors are named '", *twice, "'");
  return layout;
}

inline std::string json_string(const std::string& where, const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    fail(where, "the text '", text, "' is not valid UTF-8");
  }
}

struct written_header {
  std::string bytes;          // with the length before and the padding after
  std::size_t digits_at = 0;  // where the digits of the checksum are, zeros for now
};

inline written_header compose_header(const std::string& where,
                                     std::span<const tensor_info> tensors,
                                     std::map<std::string, std::string> metadata) {
  metadata.insert_or_assign(std::string(checksum_key),
                            std::string(checksum_prefix) + std::string(checksum_zeros));
  written_header header;
  std::string& text = header.bytes;
  text.assign(header_length_bytes, '\0');

  text += "{\"__metadata__\":";
  char separator = '{';
  for (const auto& [key, value] : metadata) {
    text += std::exchange(separator, ',') + json_string(where, key) + ':';
    text += json_string(where, value);
    if (key == checksum_key) header.digits_at = text.size() - 1 - checksum_zeros.size();
  }
  text += '}';
  for (const tensor_info& tensor : tensors) {
    text += ',' + json_string(where, tensor.name) + ":{\"dtype\":\"";
    text += element_name(tensor.type);
    text += "\",\"shape\":[";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      text += i > 0 ? "," : "";
      text += std::to_string(tensor.shape[i]);
    }
    text += "],\"data_offsets\":[" + std::to_string(tensor.begin) + ',' +
            std::to_string(tensor.end) + "]}";
  }
  text += '}';
  text.append((data_alignment - text.size() % data_alignment) % data_alignment, ' ');

  const std::uint64_t length = text.size() - header_length_bytes;
  check(length <= max_header_bytes,
        where,
        "the header has ",
        length,
        " bytes, at most ",
        max_header_bytes,
        " are allowed");
  std::memcpy(text.data(), &length, header_length_bytes);
  return header;
}

}  // namespace detail

/// Writes a safetensors file in place of `path`, whole or not at all (see atomic_file).
///
/// The same input gives the same bytes. Tensors with larger elements come first, otherwise in the
/// given order, and the data begin at a multiple of 64 bytes, so every tensor is aligned to its
/// elements. Needs about 2 MiB of memory, whatever the size of the tensors.
///
/// The metadata get the entry "checksum": "xxh64:<16 hex digits>", which replaces an existing one.
/// It is the XXH64 of the whole file with zeros in place of these digits.
///
/// Throws mtp::error, with the old file unchanged, for two tensors of one name, the name
/// "__metadata__", text that is not UTF-8, a negative or too large size, a source without `read`,
/// and any failure of the disk. Exceptions of `read` pass through.
inline void write_safetensors(const std::filesystem::path& path,
                              std::span<const tensor_source> tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
  const std::string where = "write_safetensors: '" + path.string() + "': ";
  const detail::data_layout layout = detail::lay_out(where, tensors);
  const detail::written_header header = detail::compose_header(where, layout.tensors, metadata);

  atomic_file file(path);
  buffered_writer writer(file);
  xxh64 checksum;
  const auto append = [&](std::span<const std::byte> bytes) {
    checksum.update(bytes);
    writer.write(bytes);
  };

  append(std::as_bytes(std::span(header.bytes)));
  std::vector<std::byte> chunk(static_cast<std::size_t>(detail::chunk_bytes));
  for (std::size_t i = 0; i < layout.tensors.size(); ++i) {
    const tensor_info& tensor = layout.tensors[i];
    const index_t size = element_size(tensor.type);
    const index_t count = tensor.count(), step = detail::chunk_bytes / size;
    for (index_t first = 0; first < count; first += step) {
      const index_t piece = (std::min)(step, count - first);
      tensors[layout.order[i]].read(first, piece, chunk.data());
      append(std::span(chunk).first(static_cast<std::size_t>(piece * size)));
    }
  }
  writer.flush();
  const std::string digits = to_hex(checksum.digest());
  file.write_at(header.digits_at, std::as_bytes(std::span(digits)));
  file.commit();
}

}  // namespace mtp::inline MTP_ABI::io
