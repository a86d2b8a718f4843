// Values of the element types of GGUF files.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mtp/core/scalar.hpp"
#include "mtp/io/gguf/dequantize_k.hpp"
#include "mtp/io/gguf/format.hpp"
#include "mtp/io/small_floats.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

/// The values of a block of 32 bytes of Q8_0, behind their scale.
inline void dequantize_q8_0(const std::byte* from, float* to) {
  const float scale = float_of_f16_at(from);
  for (index_t i = 0; i < 32; ++i) {
    to[i] = scale * static_cast<float>(std::to_integer<std::int8_t>(from[2 + i]));
  }
}

/// The values of a block of 32 numbers of 4 bits, which stand in the low halves of 16 bytes, then
/// in the high halves. In front of them the scale, the offset if the type has one, and, of numbers
/// of 5 bits, the high ones.
inline void dequantize_small_block(gguf_type type, const std::byte* from, float* to) {
  const bool has_offset = type == gguf_type::q4_1 || type == gguf_type::q5_1;
  const bool has_high_bits = type == gguf_type::q5_0 || type == gguf_type::q5_1;
  const float scale = float_of_f16_at(from);
  const float offset = has_offset ? float_of_f16_at(from + 2) : 0;
  const std::byte* const high_bits = from + (has_offset ? 4 : 2);
  const std::byte* const numbers = high_bits + (has_high_bits ? 4 : 0);
  const int middle = has_high_bits ? 16 : 8;
  for (index_t i = 0; i < 32; ++i) {
    const int low = bits_of(numbers[i % 16], i / 16 * 4, 4);
    const int number = has_high_bits ? low | bits_of(high_bits[i / 8], i % 8, 1) << 4 : low;
    if (type == gguf_type::iq4_nl) {
      to[i] = scale * iq4_value(number);
    } else {
      to[i] = has_offset ? scale * static_cast<float>(number) + offset
                         : scale * static_cast<float>(number - middle);
    }
  }
}

/// The values of a block.
inline void dequantize_block(gguf_type type, const std::byte* from, float* to) {
  switch (type) {
    case gguf_type::q8_0:
      return dequantize_q8_0(from, to);
    case gguf_type::q2_k:
      return dequantize_q2_k(from, to);
    case gguf_type::q3_k:
      return dequantize_q3_k(from, to);
    case gguf_type::q4_k:
      return dequantize_q4_k_or_q5_k(false, from, to);
    case gguf_type::q5_k:
      return dequantize_q4_k_or_q5_k(true, from, to);
    case gguf_type::q6_k:
      return dequantize_q6_k(from, to);
    case gguf_type::iq4_xs:
      return dequantize_iq4_xs(from, to);
    default:
      return dequantize_small_block(type, from, to);
  }
}

}  // namespace detail

/// to[i] (=) value i of whole blocks. With the scale d, the offset m and the number q of an
/// element, and, in blocks of 256, a scale s and an offset o of 4 to 8 bits for 16 or 32 elements:
///
///     F32, F16, BF16    the element
///     Q8_0              d q
///     Q4_0, Q5_0        d (q - 8), d (q - 16)
///     Q4_1, Q5_1        d q + m
///     IQ4_NL            d v[q], v a table of 16 numbers
///     Q2_K              d s q - m o
///     Q3_K              d (s - 32) (q - 4)
///     Q4_K, Q5_K        d s q - m o
///     Q6_K              d s (q - 32)
///     IQ4_XS            d (s - 32) v[q]
///
/// Products are taken from left to right, which decides the sign of a zero. d and m are binary16
/// and the other factors whole numbers, so every product is exact in f32, and a sum is rounded
/// once. `from` holds `count` elements, a multiple of the type's block.
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
