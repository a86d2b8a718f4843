// Values of the blocks of 256 elements of GGUF files, the "K-quants".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mtp/core/scalar.hpp"
#include "mtp/io/gguf/format.hpp"
#include "mtp/io/small_floats.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// The binary16 at `from` as a float.
inline float float_of_f16_at(const std::byte* from) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, from, sizeof bits);
  return float_of_f16(bits);
}

/// `count` bits of a byte from bit `first` on.
inline int bits_of(std::byte byte, index_t first, index_t count) {
  return (std::to_integer<int>(byte) >> first) & ((1 << count) - 1);
}

/// What the numbers of four bits of IQ4_NL and IQ4_XS stand for.
inline constexpr std::array<std::int8_t, 16> iq4_values{
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

inline float iq4_value(int number) {
  return static_cast<float>(iq4_values[static_cast<std::size_t>(number)]);
}

inline constexpr index_t gguf_large_block = 256;

// Numbers of a large block stand in lines of 32 bytes, of which each holds the low bits of several
// parts of 32 elements: bits 0 and 1 of a line are those of the first part, bits 2 and 3 of the
// second one, and so on.

/// The low `bits` bits, 2 or 4, of element i, from lines of 32 bytes at `from`.
inline int low_bits_of(const std::byte* from, index_t i, index_t bits) {
  const index_t parts = 8 / bits;  // of a line
  const index_t part = i / 32;
  return bits_of(from[part / parts * 32 + i % 32], part % parts * bits, bits);
}

/// The scale and the minimum of a part of 32 elements of Q4_K and Q5_K: 6 bits each, 16 numbers in
/// 12 bytes. The first four of each kind stand in the low bits of bytes 0 to 7, the others have
/// their low 4 bits in bytes 8 to 11 and their high 2 bits on top of the first ones.
struct scale_and_minimum {
  int scale;
  int minimum;
};
inline scale_and_minimum scale_and_minimum_of(const std::byte* from, index_t part) {
  if (part < 4) {
    return {bits_of(from[part], 0, 6), bits_of(from[part + 4], 0, 6)};
  }
  return {bits_of(from[part + 4], 0, 4) | bits_of(from[part - 4], 6, 2) << 4,
          bits_of(from[part + 4], 4, 4) | bits_of(from[part], 6, 2) << 4};
}

/// The scale of 16 elements of Q3_K, 0 to 63: 16 numbers of 6 bits in 12 bytes. Low 4 bits stand in
/// the halves of bytes 0 to 7, high 2 bits in bytes 8 to 11.
inline int q3_k_scale_of(const std::byte* from, index_t group) {
  return bits_of(from[group % 8], group / 8 * 4, 4) | bits_of(from[8 + group % 4], group / 4 * 2, 2)
                                                          << 4;
}

/// 84 bytes: a scale and a minimum of 4 bits for each 16 elements, numbers of 2 bits, d, dmin.
inline void dequantize_q2_k(const std::byte* from, float* to) {
  const std::byte* const numbers = from + 16;
  const float d = float_of_f16_at(from + 80), minimum = float_of_f16_at(from + 82);
  for (index_t i = 0; i < gguf_large_block; ++i) {
    const std::byte scales = from[i / 16];
    to[i] = d * static_cast<float>(bits_of(scales, 0, 4) * low_bits_of(numbers, i, 2)) -
            minimum * static_cast<float>(bits_of(scales, 4, 4));
  }
}

/// 110 bytes: high bits, 8 elements of a column in each byte; numbers of 2 bits; scales; d.
inline void dequantize_q3_k(const std::byte* from, float* to) {
  const std::byte* const numbers = from + 32;
  const std::byte* const scales = from + 96;
  const float d = float_of_f16_at(from + 108);
  for (index_t i = 0; i < gguf_large_block; ++i) {
    const int high = bits_of(from[i % 32], i / 32, 1) << 2;
    const int number = (low_bits_of(numbers, i, 2) | high) - 4;
    to[i] = d * static_cast<float>(q3_k_scale_of(scales, i / 16) - 32) * static_cast<float>(number);
  }
}

/// 144 bytes, or 176 with a fifth bit: d, dmin, scales and minima, high bits, numbers of 4 bits.
inline void dequantize_q4_k_or_q5_k(bool has_high_bits, const std::byte* from, float* to) {
  const float d = float_of_f16_at(from), minimum = float_of_f16_at(from + 2);
  const std::byte* const high_bits = from + 16;
  const std::byte* const numbers = high_bits + (has_high_bits ? 32 : 0);
  for (index_t part = 0; part < gguf_large_block / 32; ++part) {
    const auto [scale, offset] = scale_and_minimum_of(from + 4, part);
    for (index_t i = part * 32; i < (part + 1) * 32; ++i) {
      const int high = has_high_bits ? bits_of(high_bits[i % 32], part, 1) << 4 : 0;
      to[i] = d * static_cast<float>(scale * (low_bits_of(numbers, i, 4) | high)) -
              minimum * static_cast<float>(offset);
    }
  }
}

/// 210 bytes: numbers of 4 bits in lines of 64 bytes, of 2 bits in lines of 32, a scale of a signed
/// byte for each 16 elements, d.
inline void dequantize_q6_k(const std::byte* from, float* to) {
  const float d = float_of_f16_at(from + 208);
  for (index_t i = 0; i < gguf_large_block; ++i) {
    const index_t half = i / 128, place = i % 128;
    const int low = bits_of(from[half * 64 + place % 64], place / 64 * 4, 4);
    const int number = (low | low_bits_of(from + 128, i, 2) << 4) - 32;
    const auto scale = std::to_integer<std::int8_t>(from[192 + i / 16]);
    to[i] = d * static_cast<float>(scale) * static_cast<float>(number);
  }
}

/// 136 bytes: d, the high 2 bits of the scales of 32 elements, their low 4 bits, numbers of 4 bits.
inline void dequantize_iq4_xs(const std::byte* from, float* to) {
  const float d = float_of_f16_at(from);
  for (index_t part = 0; part < gguf_large_block / 32; ++part) {
    const int scale = (bits_of(from[4 + part / 2], part % 2 * 4, 4) |
                       bits_of(from[2 + part / 4], part % 4 * 2, 2) << 4) -
                      32;
    const std::byte* const numbers = from + 8 + part * 16;
    for (index_t i = 0; i < 32; ++i) {
      to[part * 32 + i] =
          d * static_cast<float>(scale) * iq4_value(bits_of(numbers[i % 16], i / 16 * 4, 4));
    }
  }
}

}  // namespace mtp::inline MTP_ABI::io::detail
