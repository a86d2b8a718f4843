// Vectors, based on Eigen's packet primitives. The only file that determines their width.
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "mtp/backend/cpu/abi.hpp"
#include "mtp/backend/cpu/eigen.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// The widest vector of Real that this translation unit is compiled for; a scalar if there is none.
template <real Real>
using packet = typename Eigen::internal::packet_traits<Real>::type;

/// Lanes of a packet.
template <real Real>
inline constexpr index_t lanes = Eigen::internal::unpacket_traits<packet<Real>>::size;

template <real Real>
inline packet<Real> load(const Real* from) {
  return Eigen::internal::ploadu<packet<Real>>(from);
}

/// Loads and widens. An element type with a faster way has an overload below.
template <real Real, storage_scalar S>
requires std::same_as<accumulate_t<S>, Real>
inline packet<Real> load(const S* from) {
  Real values[static_cast<std::size_t>(lanes<Real>)];
  for (Real& value : values) {
    value = static_cast<Real>(*from++);
  }
  return load<Real>(values);
}

/// The same for bf16: shifting the bits up is exact. Written with vectors, because compilers that
/// vectorize a loop choose the width themselves, and data stored in halves is slow to load as a
/// whole.
template <std::same_as<float> Real>
inline packet<Real> load(const bf16* from) {
#if defined(EIGEN_VECTORIZE_AVX512)
  // g++ 12 turns the lines below into two halves that it joins.
  Eigen::internal::Packet16bf loaded;
  std::memcpy(&loaded, from, sizeof(loaded));
  return Eigen::internal::Bf16ToF32(loaded);
#else
  using bits [[gnu::vector_size(sizeof(packet<float>))]] = std::uint32_t;
  using upper_bits [[gnu::vector_size(sizeof(packet<float>) / 2)]] = std::uint16_t;
  upper_bits loaded;
  std::memcpy(&loaded, from, sizeof(loaded));
  return __builtin_bit_cast(packet<float>, __builtin_convertvector(loaded, bits) << 16);
#endif
}

template <real Real>
inline void store(Real* to, const packet<Real>& value) {
  Eigen::internal::pstoreu(to, value);
}

/// Rounds and stores; bf16 below.
template <real Real, storage_scalar S>
requires(std::same_as<accumulate_t<S>, Real> &&
         !std::same_as<S, bf16>) inline void store(S* to, const packet<Real>& value) {
  Real values[static_cast<std::size_t>(lanes<Real>)];
  store<Real>(values, value);
  for (const Real each : values) {
    *to++ = S(each);
  }
}

/// The same for bf16, rounded like bf16(float).
template <std::same_as<float> Real>
inline void store(bf16* to, const packet<Real>& value) {
  using bits [[gnu::vector_size(sizeof(packet<float>))]] = std::uint32_t;
  const auto whole = __builtin_bit_cast(bits, value);
  const bits rounded = whole + 0x7fffu + ((whole >> 16) & 1u);
  // Comparisons give lanes of ones.
  const auto is_nan = __builtin_bit_cast(bits, (whole & 0x7fffffffu) > 0x7f800000u);
  const bits upper = ((rounded & ~is_nan) | ((whole | 0x400000u) & is_nan)) >> 16;
#if defined(EIGEN_VECTORIZE_AVX512)
  const __m256i stored = _mm512_cvtepi32_epi16(__builtin_bit_cast(__m512i, upper));
#else
  using upper_bits [[gnu::vector_size(sizeof(packet<float>) / 2)]] = std::uint16_t;
  const auto stored = __builtin_convertvector(upper, upper_bits);
#endif
  std::memcpy(static_cast<void*>(to), &stored, sizeof(stored));
}

template <real Real>
inline packet<Real> broadcast(Real value) {
  return Eigen::internal::pset1<packet<Real>>(value);
}

/// Keeps a packet in its register. g++ 12 loads one that several instructions take again for each
/// of them, and widens it again: four rows took a quarter longer than five.
template <class Packet>
inline void keep_in_register(Packet& value) {
#if defined(__x86_64__) && defined(__GNUC__)
  asm("" : "+v"(value));
#else
  static_cast<void>(value);
#endif
}

/// a * b + c, fused where the target has the instruction.
template <class Packet>
inline Packet multiply_add(const Packet& a, const Packet& b, const Packet& c) {
  return Eigen::internal::pmadd(a, b, c);
}

template <class Packet>
inline Packet add(const Packet& a, const Packet& b) {
  return Eigen::internal::padd(a, b);
}

template <class Packet>
inline Packet subtract(const Packet& a, const Packet& b) {
  return Eigen::internal::psub(a, b);
}

template <class Packet>
inline Packet multiply(const Packet& a, const Packet& b) {
  return Eigen::internal::pmul(a, b);
}

template <class Packet>
inline Packet divide(const Packet& a, const Packet& b) {
  return Eigen::internal::pdiv(a, b);
}

template <class Packet>
inline Packet maximum(const Packet& a, const Packet& b) {
  return Eigen::internal::pmax(a, b);
}

/// b where a is less than c, else d; d where one of them is NaN.
template <class Packet>
inline Packet select_less(const Packet& a, const Packet& c, const Packet& b, const Packet& d) {
  return Eigen::internal::pselect(Eigen::internal::pcmp_lt(a, c), b, d);
}

/// The square root of numbers that are not negative; infinity and NaN stay as they are. Below the
/// smallest normal number it is 0. Eigen computes roots of f32 from approximate reciprocals, which
/// give NaN for 0 on the way and for infinity in the end, so neither is passed to it.
template <real Real>
inline packet<Real> square_root(const packet<Real>& a) {
  using limits = std::numeric_limits<Real>;
  const auto smallest = broadcast<Real>((limits::min)());
  const auto infinity = broadcast<Real>(limits::infinity());
  const auto normal = select_less(a, smallest, smallest, select_less(a, infinity, a, smallest));
  const auto root = Eigen::internal::psqrt(normal);
  return select_less(a, smallest, broadcast<Real>(Real{0}), select_less(a, infinity, root, a));
}

/// to[i] = from[i], rounded or widened, for i < count.
template <scalar To, scalar From>
inline void convert_row(To* to, const From* from, index_t count) {
  using Real = accumulate_t<To>;
  index_t i = 0;
  for (; i + lanes<Real> <= count; i += lanes<Real>) {
    store<Real>(to + i, load<Real>(from + i));
  }
  for (; i < count; ++i) {
    to[i] = To(Real(from[i]));
  }
}

/// Sum over the lanes, in an order that depends only on the packet type.
template <real Real>
inline Real sum_of_lanes(const packet<Real>& a) {
  return Eigen::internal::predux(a);
}

template <real Real>
inline Real maximum_of_lanes(const packet<Real>& a) {
  return Eigen::internal::predux_max(a);
}

/// exp per lane. Arguments below about -87 (f32) give a tiny positive number instead of zero; code
/// that masks must set zeros afterwards.
template <real Real>
inline packet<Real> exponential(const packet<Real>& a) {
  if constexpr (Eigen::internal::packet_traits<Real>::HasExp) {
    return Eigen::internal::pexp(a);
  } else {
    Real values[static_cast<std::size_t>(lanes<Real>)];
    store<Real>(values, a);
    for (Real& value : values) {
      value = std::exp(value);
    }
    return load<Real>(values);
  }
}

/// Calls body(offset, load, store) for every packet of a row of `count` elements. The last,
/// incomplete packet goes through a padded buffer, so the same vector instructions compute each
/// element: results do not depend on alignment or position.
///
/// load(pointer) reads a packet at pointer + offset (zeros beyond the row); store(pointer, packet)
/// writes. Elements are of Real or of a storage type, which is widened and rounded.
template <real Real, class Body>
inline void for_each_packet(index_t count, Body&& body) {
  constexpr index_t width = lanes<Real>;
  index_t i = 0;
  for (; i + width <= count; i += width) {
    body([i](const auto* row) { return load<Real>(row + i); },
         [i](auto* row, const packet<Real>& value) { store<Real>(row + i, value); });
  }
  if (i < count) {
    const auto rest = static_cast<std::size_t>(count - i);
    body(
        [i, rest](const auto* row) {
          Real padded[static_cast<std::size_t>(lanes<Real>)] = {};
          for (std::size_t l = 0; l < rest; ++l) {
            padded[l] = static_cast<Real>(row[i + static_cast<index_t>(l)]);
          }
          return load<Real>(padded);
        },
        [i, rest]<class Element>(Element* row, const packet<Real>& value) {
          Real padded[static_cast<std::size_t>(lanes<Real>)];
          store<Real>(padded, value);
          for (std::size_t l = 0; l < rest; ++l) {
            row[i + static_cast<index_t>(l)] = static_cast<Element>(padded[l]);
          }
        });
  }
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
