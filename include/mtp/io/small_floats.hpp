// Numbers of 16 and 8 bits that files hold and the library does not compute with, as floats.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/safetensors_format.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

/// An IEEE binary16 as a float, exactly.
inline float float_of_f16(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu, fraction = bits & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 31 ? 0xffu : exponent + 112;
  return __builtin_bit_cast(float, sign | wide << 23 | fraction << 13);
}

/// The value of an F8_E4M3, exactly: bias 7, at most 448, no infinity, NaN where all of the seven
/// bits are set (Micikevicius et al. 2022, arXiv 2209.05433, table 1).
inline float float_of_f8_e4m3(std::uint8_t bits) {
  const int exponent = (bits >> 3) & 0xf, mantissa = bits & 0x7;
  float magnitude = 0;
  if (exponent == 0xf && mantissa == 0x7) {
    magnitude = std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), -9);
  } else {
    magnitude = std::ldexp(static_cast<float>(mantissa | 0x8), exponent - 10);
  }
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

/// The value of an F8_E8M0: 2^(bits - 127), NaN for 255 (OCP Microscaling Formats 1.0, 5.4.1).
inline float float_of_f8_e8m0(std::uint8_t bits) {
  return bits == 0xff ? std::numeric_limits<float>::quiet_NaN()
                      : std::ldexp(1.0f, static_cast<int>(bits) - 127);
}

}  // namespace detail

/// Whether elements of this type are numbers that a parameter can be read from.
constexpr bool is_floating(element type) {
  return type != element::i64 && type != element::i32 && type != element::u8;
}

/// to[i] (=) element i of `from`, `count` elements of the file's type, rounded once if Sum is
/// shorter. Throws mtp::error for a type that is not floating.
template <real Sum>
void widen(element type, const std::byte* from, index_t count, Sum* to) {
  const auto each = [&](auto zero, auto value_of) {
    using stored = decltype(zero);
    for (index_t i = 0; i < count; ++i) {
      stored bits;
      std::memcpy(&bits, from + i * static_cast<index_t>(sizeof(stored)), sizeof(stored));
      to[i] = static_cast<Sum>(value_of(bits));
    }
  };
  switch (type) {
    case element::f64:
      return each(double{}, [](double value) { return value; });
    case element::f32:
      return each(float{}, [](float value) { return value; });
    case element::bf16:
      return each(std::uint16_t{},
                  [](std::uint16_t bits) -> float { return mtp::bf16::from_bits(bits); });
    case element::f16:
      return each(std::uint16_t{}, detail::float_of_f16);
    case element::f8_e4m3:
      return each(std::uint8_t{}, detail::float_of_f8_e4m3);
    case element::f8_e8m0:
      return each(std::uint8_t{}, detail::float_of_f8_e8m0);
    default:
      fail("widen: expected a floating type, got ", element_name(type));
  }
}

}  // namespace mtp::inline MTP_ABI::io
