// Values of the element types of GGUF files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mtp/core/scalar.hpp"
#include "mtp/io/gguf/format.hpp"
#include "mtp/io/small_floats.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

/// The binary16 at `from` as a float.
inline float float_of_f16_at(const std::byte* from) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, from, sizeof bits);
  return float_of_f16(bits);
}

/// The values of a block of 32. Numbers of four bits stand in the low halves of 16 bytes, then in
/// the high halves.
inline void dequantize_block(gguf_type type, const std::byte* from, float* to) {
  constexpr index_t half = 16;
  const float scale = float_of_f16_at(from);
  if (type == gguf_type::q8_0) {
    for (index_t i = 0; i < 2 * half; ++i) {
      to[i] = scale * static_cast<float>(static_cast<std::int8_t>(from[2 + i]));
    }
    return;
  }
  const bool has_offset = type == gguf_type::q4_1;
  const float offset = has_offset ? float_of_f16_at(from + 2) : 0;
  const std::byte* const numbers = from + (has_offset ? 4 : 2);
  for (index_t i = 0; i < half; ++i) {
    const int pair = static_cast<int>(numbers[i]);
    for (const index_t part : {index_t{0}, index_t{1}}) {
      const int number = part == 0 ? pair & 0xf : pair >> 4;
      to[i + part * half] = has_offset ? scale * static_cast<float>(number) + offset
                                       : scale * static_cast<float>(number - 8);
    }
  }
}

}  // namespace detail

/// to[i] (=) value i of whole blocks. With the scale d, the offset m and the number q of an
/// element:
///
///     F32, F16, BF16    the element
///     Q8_0              d q
///     Q4_0              d (q - 8)
///     Q4_1              d q + m
///
/// d and m are binary16, so a product is exact in f32, and the sum of Q4_1 is rounded once. `from`
/// holds `count` elements, a multiple of the type's block.
inline void dequantize(gguf_type type, const std::byte* from, index_t count, float* to) {
  const detail::gguf_type_row& row = detail::gguf_row_of(type);
  switch (type) {
    case gguf_type::f32:
      return widen(element::f32, from, count, to);
    case gguf_type::f16:
      return widen(element::f16, from, count, to);
    case gguf_type::bf16:
      return widen(element::bf16, from, count, to);
    default:
      for (index_t i = 0; i < count / row.block; ++i) {
        detail::dequantize_block(type, from + i * row.bytes, to + i * row.block);
      }
  }
}

}  // namespace mtp::inline MTP_ABI::io
