// The types of tensors and of metadata in GGUF files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::io {

/// The types of tensors that can be read. The value is the type's number in the files.
enum class gguf_type : std::uint32_t {
  f32 = 0,      ///< IEEE binary32
  f16 = 1,      ///< IEEE binary16
  q4_0 = 2,     ///< blocks of 32: a scale and numbers from -8 to 7
  q4_1 = 3,     ///< blocks of 32: a scale, an offset, and numbers from 0 to 15
  q5_0 = 6,     ///< blocks of 32: a scale and numbers from -16 to 15
  q5_1 = 7,     ///< blocks of 32: a scale, an offset, and numbers from 0 to 31
  q8_0 = 8,     ///< blocks of 32: a scale and numbers from -128 to 127
  q2_k = 10,    ///< blocks of 256: numbers of 2 bits, a scale and an offset for 16
  q3_k = 11,    ///< blocks of 256: numbers of 3 bits, a scale for 16
  q4_k = 12,    ///< blocks of 256: numbers of 4 bits, a scale and an offset for 32
  q5_k = 13,    ///< blocks of 256: numbers of 5 bits, a scale and an offset for 32
  q6_k = 14,    ///< blocks of 256: numbers of 6 bits, a scale for 16
  iq4_nl = 20,  ///< blocks of 32: a scale and numbers of a table of 16
  iq4_xs = 23,  ///< blocks of 256: numbers of a table of 16, a scale for 32
  bf16 = 30,    ///< the upper half of an f32
};

/// A tensor of a GGUF file.
struct gguf_tensor {
  std::string name;                 ///< unique in a file
  gguf_type type = gguf_type::f32;  ///< of its elements
  std::vector<index_t> shape;       ///< row-major; the file has it the other way round
  index_t count = 0;                ///< elements
  std::uint64_t begin = 0;          ///< bytes from the start of the data
  std::uint64_t bytes = 0;          ///< of its data
};

namespace detail {

/// A type of the format. `block` is 0 if it cannot be read.
struct gguf_type_row {
  std::uint32_t number;
  std::string_view name;
  index_t block = 0;  // elements
  index_t bytes = 0;  // of a block
};

/// All types that files in circulation have, so that a refusal can name them.
inline constexpr std::array<gguf_type_row, 32> gguf_type_rows{{{0, "F32", 1, 4},
                                                               {1, "F16", 1, 2},
                                                               {2, "Q4_0", 32, 18},
                                                               {3, "Q4_1", 32, 20},
                                                               {6, "Q5_0", 32, 22},
                                                               {7, "Q5_1", 32, 24},
                                                               {8, "Q8_0", 32, 34},
                                                               {9, "Q8_1"},
                                                               {10, "Q2_K", 256, 84},
                                                               {11, "Q3_K", 256, 110},
                                                               {12, "Q4_K", 256, 144},
                                                               {13, "Q5_K", 256, 176},
                                                               {14, "Q6_K", 256, 210},
                                                               {15, "Q8_K"},
                                                               {16, "IQ2_XXS"},
                                                               {17, "IQ2_XS"},
                                                               {18, "IQ3_XXS"},
                                                               {19, "IQ1_S"},
                                                               {20, "IQ4_NL", 32, 18},
                                                               {21, "IQ3_S"},
                                                               {22, "IQ2_S"},
                                                               {23, "IQ4_XS", 256, 136},
                                                               {24, "I8"},
                                                               {25, "I16"},
                                                               {26, "I32"},
                                                               {27, "I64"},
                                                               {28, "F64"},
                                                               {29, "IQ1_M"},
                                                               {30, "BF16", 1, 2},
                                                               {34, "TQ1_0"},
                                                               {35, "TQ2_0"},
                                                               {39, "MXFP4"}}};

/// The names of all types that can be read, such as "F32, F16 or Q4_0".
inline std::string gguf_readable_types() {
  std::string names;
  const gguf_type_row* last = nullptr;
  for (const gguf_type_row& each : gguf_type_rows) {
    if (each.block == 0) continue;
    if (last != nullptr) names.append(names.empty() ? "" : ", ").append(last->name);
    last = &each;
  }
  return names.append(" or ").append(last->name);
}

/// The row of a type, or nullptr.
constexpr const gguf_type_row* gguf_row_of(std::uint32_t number) {
  for (const gguf_type_row& each : gguf_type_rows) {
    if (each.number == number) return &each;
  }
  return nullptr;
}
constexpr const gguf_type_row& gguf_row_of(gguf_type type) {
  return *gguf_row_of(static_cast<std::uint32_t>(type));
}

/// Types of metadata, by their numbers in the files.
enum class gguf_value_type : std::uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64,
};

/// The fewest bytes of a value of each type; 0 for arrays, which have a type and a length first.
inline constexpr std::array<std::uint64_t, 13> gguf_value_bytes{
    1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};

inline constexpr std::string_view gguf_magic = "GGUF";
inline constexpr std::uint64_t gguf_head_bytes = 24;  // magic, version and the two counts
inline constexpr std::uint64_t gguf_max_header_bytes = 100'000'000;
inline constexpr std::uint64_t gguf_max_key_bytes = 65'535;
inline constexpr std::uint64_t gguf_max_name_bytes = 64;
inline constexpr std::uint32_t gguf_max_rank = 4;
inline constexpr std::uint64_t gguf_min_value_bytes = 13;   // of a key, its type and a value
inline constexpr std::uint64_t gguf_min_tensor_bytes = 24;  // of a tensor's description
inline constexpr std::uint64_t gguf_default_alignment = 32;
inline constexpr std::uint64_t gguf_max_alignment = 65'536;

}  // namespace detail

/// The name of a type, such as "Q8_0".
constexpr std::string_view gguf_type_name(gguf_type type) {
  return detail::gguf_row_of(type).name;
}

}  // namespace mtp::inline MTP_ABI::io
