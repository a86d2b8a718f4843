// Element types: f64 for checks, f32 for work, bf16 for storage; and their traits.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI {

/// Sizes, offsets and strides: always signed and 64 bits wide, so that products do not wrap.
using index_t = std::ptrdiff_t;

/// Token ids as they are stored in batches.
using token_t = std::int32_t;

/// bfloat16: the upper half of an IEEE binary32. It is a storage type; arithmetic is done in float.
class bf16 {
 public:
  /// Not initialized, like a float.
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

/// The traits of an element type, one specialization each. The library asks the traits and does not
/// name types. A new type needs a specialization and, where its format matters, rows in the tables
/// of the backends and of the file formats.
///
///     using accumulator     the type of arithmetic and of sums
///     constexpr digits      significant bits: rounding changes a number by at most 2^-digits of it
///     constexpr name        in messages and in print
///     constexpr file_name   in safetensors files
///     constexpr npy_name    in NumPy's files, or "": written as the accumulator type
///
/// A type with another accumulator type is a storage type: nothing is computed in it. It has an
/// explicit constructor from its accumulator type, which rounds, an exact conversion back, and
/// bits(), its representation as an unsigned integer.
template <class T>
struct scalar_traits;

/// Traits of f64.
template <>
struct scalar_traits<double> {
  using accumulator = double;                      ///< type of arithmetic and sums
  static constexpr int digits = 53;                ///< significant bits
  static constexpr const char* name = "f64";       ///< in messages and in print
  static constexpr const char* file_name = "F64";  ///< in safetensors files
  static constexpr const char* npy_name = "<f8";   ///< in NumPy's files
};

/// Traits of f32.
template <>
struct scalar_traits<float> {
  using accumulator = float;                       ///< type of arithmetic and sums
  static constexpr int digits = 24;                ///< significant bits
  static constexpr const char* name = "f32";       ///< in messages and in print
  static constexpr const char* file_name = "F32";  ///< in safetensors files
  static constexpr const char* npy_name = "<f4";   ///< in NumPy's files
};

/// Traits of bf16.
template <>
struct scalar_traits<bf16> {
  using accumulator = float;                        ///< type of arithmetic and sums
  static constexpr int digits = 8;                  ///< significant bits
  static constexpr const char* name = "bf16";       ///< in messages and in print
  static constexpr const char* file_name = "BF16";  ///< in safetensors files
  static constexpr const char* npy_name = "";       ///< in NumPy's files
};

/// An element type of tensors of numbers.
template <class T>
concept scalar = requires {
  typename scalar_traits<T>::accumulator;
};

/// The accumulator type of T.
template <scalar T>
using accumulate_t = typename scalar_traits<T>::accumulator;

/// An element type in which arithmetic is done.
template <class T>
concept real = scalar<T> && std::same_as<accumulate_t<T>, T>;

/// An element type for storage only; arithmetic is done in its accumulator type.
template <class T>
concept storage_scalar = scalar<T> && !std::same_as<accumulate_t<T>, T>;

/// ceil(value / divisor) for non-negative values.
MTP_HOST_DEVICE constexpr index_t ceil_div(index_t value, index_t divisor) {
  return value > 0 ? (value - 1) / divisor + 1 : 0;
}

/// The least multiple of `multiple` that is not below the non-negative `value`; it must fit.
MTP_HOST_DEVICE constexpr index_t round_up(index_t value, index_t multiple) {
  return ceil_div(value, multiple) * multiple;
}

}  // namespace mtp::inline MTP_ABI
