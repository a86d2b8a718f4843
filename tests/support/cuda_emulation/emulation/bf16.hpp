// Conversions of bf16 as hardware does them.
#pragma once

#include <cstdint>

namespace mtp::emulation {

/// Rounded to nearest, ties to even; every NaN becomes the same one.
inline std::uint32_t bf16_bits(float value) {
  const auto bits = __builtin_bit_cast(std::uint32_t, value);
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return is_nan ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

inline float bf16_value(std::uint32_t bits) {
  return __builtin_bit_cast(float, bits << 16);
}

}  // namespace mtp::emulation
