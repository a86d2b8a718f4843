// Element types: f64 for checks, f32 for work, bf16 for storage.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI {

/// Sizes, offsets and strides. Signed and 64 bits wide everywhere, so that products do not wrap.
using index_t = std::ptrdiff_t;

/// Token ids as they are stored in batches.
using token_t = std::int32_t;

/// bfloat16: the upper half of an IEEE binary32. A storage type: arithmetic happens in float.
class bf16 {
 public:
  /// Not initialized, as a float.
  bf16() = default;

  /// Rounds to nearest, ties to even; NaN stays NaN (quieted).
  MTP_HOST_DEVICE explicit bf16(float value) {
    const auto bits = __builtin_bit_cast(std::uint32_t, value);
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    const std::uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    bits_ = static_cast<std::uint16_t>(is_nan ? (bits >> 16) | 0x40u : rounded >> 16);
  }

  /// Exact: every bf16 is a float.
  MTP_HOST_DEVICE operator float() const {
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits_) << 16);
  }

  /// The number with this representation.
  MTP_HOST_DEVICE static bf16 from_bits(std::uint16_t bits) {
    bf16 value;
    value.bits_ = bits;
    return value;
  }
  /// The representation: sign, 8 bits of exponent, 7 of mantissa.
  MTP_HOST_DEVICE std::uint16_t bits() const { return bits_; }

 private:
  std::uint16_t bits_;
};

namespace detail {
template <class T>
inline constexpr bool is_scalar = false;
template <>
inline constexpr bool is_scalar<double> = true;
template <>
inline constexpr bool is_scalar<float> = true;
template <>
inline constexpr bool is_scalar<bf16> = true;

template <class T>
struct accumulate {
  using type = T;
};
template <>
struct accumulate<bf16> {
  using type = float;
};
}  // namespace detail

/// An element type that tensors of numbers may have.
template <class T>
concept scalar = detail::is_scalar<T>;

/// An element type that arithmetic may be done in.
template <class T>
concept real = std::same_as<T, float> || std::same_as<T, double>;

/// The accumulator type of T.
template <scalar T>
using accumulate_t = typename detail::accumulate<T>::type;

/// `value` rounded up to a multiple of `multiple`.
MTP_HOST_DEVICE constexpr index_t round_up(index_t value, index_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// ceil(value / divisor) for non-negative values.
MTP_HOST_DEVICE constexpr index_t ceil_div(index_t value, index_t divisor) {
  return value > 0 ? (value - 1) / divisor + 1 : 0;
}

}  // namespace mtp::inline MTP_ABI
