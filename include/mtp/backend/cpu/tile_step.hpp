// One step of a tile: how an element of A and a row of a panel of B enter the sums.
//
// f32 and f64 add one product in a step. bf16 adds two, of neighbouring elements of a row of A and
// neighbouring rows of B, as the instruction VDPBF16PS does:
//
//     sum = F(F(sum, a1 b1), a0 b0)
//
// F is a fused multiply-add to f32 that rounds to nearest, takes subnormal operands as zeros, and
// turns subnormal results into zeros. Where there is no such instruction, F is multiply_add, which
// keeps subnormal numbers.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "mtp/backend/cpu/simd.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Whether products read rows of bf16 as they lie; otherwise they are widened first, like other
/// storage types. A step without the instruction needs more registers than AVX2 has: there it would
/// take 1.7 times as long.
#if defined(__AVX512F__)
inline constexpr bool multiplies_bf16 = true;
#else
inline constexpr bool multiplies_bf16 = false;
#endif

/// Element types whose rows products read.
template <class S>
concept factor = real<S> ||(multiplies_bf16&& std::same_as<S, bf16>);

/// The type in which products read rows of S.
template <scalar S>
using factor_type = std::conditional_t<factor<S>, S, accumulate_t<S>>;

/// Columns of a panel: 128 bytes of the accumulator type.
template <scalar Scalar>
inline constexpr index_t panel_width = 128 / static_cast<index_t>(sizeof(accumulate_t<Scalar>));

/// Left: elements of A. Weight: elements of B.
template <class Left, class Weight>
struct tile_step {
  using right = packet<Left>;
  static constexpr index_t links = 1;  // of a chain

  /// Columns from `column` on of the row of B at `row`.
  static right read(const Weight* row, index_t column) { return load<Left>(row + column); }
  static void add(packet<Left>& sum, const Left* a, right b) {
    sum = multiply_add(broadcast<Left>(*a), b, sum);
  }
  static void write(Left* to, const packet<Left>& sum) { store<Left>(to, sum); }
};

/// The elements of A of one step, from two neighbours of a row or from the last of an odd number.
inline std::uint32_t pair_at(const bf16* a) {
  std::uint32_t pair;
  std::memcpy(&pair, a, sizeof(pair));
  return pair;
}
inline std::uint32_t pair_of(bf16 last) {
  return last.bits();
}

#if defined(MTP_CPU_HAS_BF16_PRODUCTS)

/// The 16 columns from `column` on, 0 or 16, of two rows of a panel, column by column.
inline __m512i interleave_rows(__m512i even, __m512i odd, index_t column) {
  alignas(64) static constexpr std::uint16_t first[32] = {
      0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
      8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i order = _mm512_add_epi16(_mm512_load_si512(first),
                                         _mm512_set1_epi16(static_cast<std::int16_t>(column)));
  return _mm512_permutex2var_epi16(even, order, odd);
}

/// to[2 i] = even[i], to[2 i + 1] = odd[i] for i < Count.
template <int Count>
inline void interleave(bf16* to, const bf16* even, const bf16* odd) {
  constexpr __mmask32 valid = (1u << Count) - 1;
  static_assert(Count <= 16);
  const __m512i pairs = interleave_rows(
      _mm512_maskz_loadu_epi16(valid, even), _mm512_maskz_loadu_epi16(valid, odd), 0);
  _mm512_mask_storeu_epi32(to, static_cast<__mmask16>(valid), pairs);
}

template <>
struct tile_step<bf16, bf16> {
  using right = __m512i;
  static constexpr index_t links = 2;

  static right read(const bf16* rows, index_t column) {
    return interleave_rows(
        _mm512_loadu_si512(rows), _mm512_loadu_si512(rows + panel_width<bf16>), column);
  }
  /// The last row of an odd number; the other factor of its pair is zero.
  static right read_last(const bf16* row, index_t column) {
    return interleave_rows(_mm512_loadu_si512(row), _mm512_setzero_si512(), column);
  }
  static void add(packet<float>& sum, std::uint32_t a, right b) {
    const __m512i left = _mm512_set1_epi32(static_cast<int>(a));
    sum = _mm512_dpbf16_ps(
        sum, reinterpret_cast<const __m512bh&>(left), reinterpret_cast<const __m512bh&>(b));
  }
  static void add(packet<float>& sum, const bf16* a, right b) { add(sum, pair_at(a), b); }
  static void write(float* to, const packet<float>& sum) { store<float>(to, sum); }
  /// No sum is subnormal, and what a sum starts from becomes zero if it is.
  static void write(bf16* to, const packet<float>& sum) {
    const __m256bh rounded = _mm512_cvtneps_pbh(sum);
    std::memcpy(static_cast<void*>(to), &rounded, sizeof(rounded));
  }
};

#else

/// to[2 i] = even[i], to[2 i + 1] = odd[i] for i < Count.
template <int Count>
inline void interleave(bf16* to, const bf16* even, const bf16* odd) {
  for (int i = 0; i < Count; ++i) {
    to[2 * i] = even[i];
    to[2 * i + 1] = odd[i];
  }
}

/// Pairs of columns, widened.
struct wide_pairs {
  packet<float> even, odd;
};

template <>
struct tile_step<bf16, bf16> {
  using right = wide_pairs;
  static constexpr index_t links = 2;

  static right read(const bf16* rows, index_t column) {
    return {load<float>(rows + column), load<float>(rows + panel_width<bf16> + column)};
  }
  /// The last row of an odd number; the other factor of its pair is zero.
  static right read_last(const bf16* row, index_t column) {
    return {load<float>(row + column), broadcast<float>(0)};
  }
  static void add(packet<float>& sum, std::uint32_t a, right b) {
    using bits [[gnu::vector_size(sizeof(packet<float>))]] = std::uint32_t;
    const bits pairs = bits{} + a;
    sum = multiply_add(__builtin_bit_cast(packet<float>, pairs & 0xffff0000u), b.odd, sum);
    sum = multiply_add(__builtin_bit_cast(packet<float>, pairs << 16), b.even, sum);
  }
  static void add(packet<float>& sum, const bf16* a, right b) { add(sum, pair_at(a), b); }
  static void write(float* to, const packet<float>& sum) { store<float>(to, sum); }
  static void write(bf16* to, const packet<float>& sum) { store<float>(to, sum); }
};

inline void keep_in_register(wide_pairs& pairs) {
  keep_in_register(pairs.even);
  keep_in_register(pairs.odd);
}

#endif

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
