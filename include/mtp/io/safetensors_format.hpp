// Shared by reader and writer of safetensors files: element types, descriptions, constants.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::io {

/// The supported element types. The format has more; a file with another one is refused.
enum class element {
  f64,      ///< "F64": IEEE binary64
  f32,      ///< "F32": IEEE binary32
  bf16,     ///< "BF16": the upper half of an F32
  i64,      ///< "I64": signed
  i32,      ///< "I32": signed
  u8,       ///< "U8": unsigned
  f16,      ///< "F16": IEEE binary16
  f8_e4m3,  ///< "F8_E4M3": 4 bits of exponent, 3 of mantissa, no infinity
  f8_e8m0,  ///< "F8_E8M0": a power of two without a sign; scales of blocks
};

namespace detail {

/// A row for each element type, in their order.
struct element_row {
  std::string_view name;  // in the format
  index_t size;           // bytes of one element
};
inline constexpr std::array<element_row, 9> element_rows{{{"F64", 8},
                                                          {"F32", 4},
                                                          {"BF16", 2},
                                                          {"I64", 8},
                                                          {"I32", 4},
                                                          {"U8", 1},
                                                          {"F16", 2},
                                                          {"F8_E4M3", 1},
                                                          {"F8_E8M0", 1}}};

}  // namespace detail

/// Bytes of one element.
constexpr index_t element_size(element type) {
  return detail::element_rows[static_cast<std::size_t>(type)].size;
}

/// The name of the type in the format, such as "F32".
constexpr std::string_view element_name(element type) {
  return detail::element_rows[static_cast<std::size_t>(type)].name;
}

/// The type with that name, if it is supported.
constexpr std::optional<element> element_of_name(std::string_view name) {
  for (std::size_t i = 0; i < detail::element_rows.size(); ++i) {
    if (detail::element_rows[i].name == name) return static_cast<element>(i);
  }
  return std::nullopt;
}

/// The file's type for the C++ type Scalar.
template <class Scalar>
constexpr element element_of() {
  if constexpr (scalar<Scalar>) {
    constexpr std::optional<element> type = element_of_name(scalar_traits<Scalar>::file_name);
    static_assert(type.has_value() && element_size(*type) == sizeof(Scalar),
                  "element_of: files do not have this element type; its row is missing");
    return *type;
  } else if constexpr (std::same_as<Scalar, std::int64_t>) {
    return element::i64;
  } else if constexpr (std::same_as<Scalar, std::int32_t>) {
    return element::i32;
  } else {
    static_assert(std::same_as<Scalar, std::uint8_t>,
                  "element_of: the type must be an mtp::scalar, int64_t, int32_t or uint8_t");
    return element::u8;
  }
}

namespace detail {

/// Bytes of a tensor, or nothing if they do not fit into index_t, or if the product of the sizes
/// that are not zero does not. `shape` has no negative sizes.
inline std::optional<index_t> tensor_bytes(element type, std::span<const index_t> shape) {
  index_t product = element_size(type);
  bool empty = false;
  for (const index_t size : shape) {
    if (size == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(product, size, &product)) {
      return std::nullopt;
    }
  }
  return empty ? 0 : product;
}

inline std::string shape_text(std::span<const index_t> shape) {
  std::string text = "[";
  for (const index_t size : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(size);
  }
  return text + "]";
}

}  // namespace detail

/// Description of a tensor in a file.
struct tensor_info {
  std::string name;             ///< unique in a file
  element type = element::f32;  ///< of its elements
  std::vector<index_t> shape;   ///< row-major, the last index varies fastest
  std::uint64_t begin = 0;      ///< bytes from the start of the data
  std::uint64_t end = 0;        ///< bytes, one past the last

  /// Number of elements; 1 for rank 0.
  index_t count() const { return static_cast<index_t>(end - begin) / element_size(type); }
};

/// The metadata entry with the checksum of the file.
inline constexpr std::string_view checksum_key = "checksum";

namespace detail {

inline constexpr std::uint64_t header_length_bytes = 8;
inline constexpr std::uint64_t max_header_bytes = 100'000'000;
inline constexpr std::size_t data_alignment = 64;
inline constexpr index_t chunk_bytes = index_t{1} << 20;
inline constexpr std::string_view metadata_name = "__metadata__";
inline constexpr std::string_view checksum_prefix = "xxh64:";
inline constexpr std::string_view checksum_zeros = "0000000000000000";

}  // namespace detail

}  // namespace mtp::inline MTP_ABI::io
