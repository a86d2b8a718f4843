// Element types: f64 for checks, f32 for work, bf16 for storage; and what each of them is.
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

/// What an element type is. One specialization each, and everything else asks it: a further type is
/// a specialization and, where its type has to be known, rows of the backends' and the files'
/// tables.
///
///     using accumulator     what arithmetic sees of an element, and the type of sums
///     constexpr digits      significant bits: rounding moves a number by at most 2^-digits of it
///     constexpr name        in messages and in print
///     constexpr file_name   in safetensors files
///     constexpr npy_name    in NumPy's files, or "": written as the accumulator type
///
/// Where the accumulator type is another one, elements are stored and not computed with. Such a
/// type is made of its accumulator type by an explicit constructor that rounds, converts back
/// exactly, and has bits(), its representation as an unsigned integer.
template <class T>
struct scalar_traits;

/// Of f64.
template <>
struct scalar_traits<double> {
  using accumulator = double;                      ///< arithmetic, and type of sums
  static constexpr int digits = 53;                ///< significant bits
  static constexpr const char* name = "f64";       ///< in messages and in print
  static constexpr const char* file_name = "F64";  ///< in safetensors files
  static constexpr const char* npy_name = "<f8";   ///< in NumPy's files
};

/// Of f32.
template <>
struct scalar_traits<float> {
  using accumulator = float;                       ///< arithmetic, and type of sums
  static constexpr int digits = 24;                ///< significant bits
  static constexpr const char* name = "f32";       ///< in messages and in print
  static constexpr const char* file_name = "F32";  ///< in safetensors files
  static constexpr const char* npy_name = "<f4";   ///< in NumPy's files
};

/// Of bf16.
template <>
struct scalar_traits<bf16> {
  using accumulator = float;                        ///< arithmetic, and type of sums
  static constexpr int digits = 8;                  ///< significant bits
  static constexpr const char* name = "bf16";       ///< in messages and in print
  static constexpr const char* file_name = "BF16";  ///< in safetensors files
  static constexpr const char* npy_name = "";       ///< in NumPy's files
};

/// An element type that tensors of numbers may have.
template <class T>
concept scalar = requires {
  typename scalar_traits<T>::accumulator;
};

/// The accumulator type of T.
template <scalar T>
using accumulate_t = typename scalar_traits<T>::accumulator;

/// An element type that arithmetic may be done in.
template <class T>
concept real = scalar<T> && std::same_as<accumulate_t<T>, T>;

/// An element type that numbers are stored in, while arithmetic is done in its accumulator type.
template <class T>
concept storage_scalar = scalar<T> && !std::same_as<accumulate_t<T>, T>;

/// `value` rounded up to a multiple of `multiple`.
MTP_HOST_DEVICE constexpr index_t round_up(index_t value, index_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// ceil(value / divisor) for non-negative values.
MTP_HOST_DEVICE constexpr index_t ceil_div(index_t value, index_t divisor) {
  return value > 0 ? (value - 1) / divisor + 1 : 0;
}

}  // namespace mtp::inline MTP_ABI
