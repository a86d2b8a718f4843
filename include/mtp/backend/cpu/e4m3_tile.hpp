// The innermost loop of products by weights in FP8: a tile of rows times one panel of a weight.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "mtp/backend/cpu/multiply_tile.hpp"
#include "mtp/backend/cpu/quantized_layout.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/backend/cpu/tile_step.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// How numbers become floats and rows are multiplied. The ways give the same sums, but for those of
/// rows of bf16 that are subnormal on the way (tile_step.hpp).
enum class e4m3_form {
  plain,    ///< a table of the 256 numbers, and multiply-adds of floats
  vectors,  ///< in registers of 32 numbers; bf16 by the processor's instruction, if it has one
};

#if defined(MTP_CPU_HAS_WORD_VECTORS)
inline constexpr e4m3_form fastest_e4m3 = e4m3_form::vectors;
inline constexpr int e4m3_tile_rows = 8;  // 16 registers of sums, 4 of weights, 6 of constants
#else
inline constexpr e4m3_form fastest_e4m3 = e4m3_form::plain;
inline constexpr int e4m3_tile_rows = 4;  // 8 registers of sums, 4 of weights
#endif

/// The bits of a number as those of bf16, which holds all of e4m3 exactly: exponents are 7 and 127
/// too large, and mantissas of 3 and 7 bits. Numbers of exponent 0 are m 2^-9, which bf16
/// normalizes. The two NaN get the value 480: their group has the scale NaN.
constexpr std::uint16_t bf16_bits_of_e4m3(std::uint8_t bits) {
  constexpr std::uint16_t subnormal[8] = {
      0, 118 << 7, 119 << 7, 119 << 7 | 64, 120 << 7, 120 << 7 | 32, 120 << 7 | 64, 120 << 7 | 96};
  const int magnitude = bits & 0x7f;
  const int value =
      magnitude < 8 ? subnormal[magnitude] : static_cast<int>((magnitude << 4) + (120 << 7));
  return static_cast<std::uint16_t>(value | (bits & 0x80) << 8);
}

/// The same for all of them, as floats.
inline constexpr std::array<std::uint32_t, 256> e4m3_table = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t bits = 0; bits < 256; ++bits) {
    table[bits] = std::uint32_t{bf16_bits_of_e4m3(static_cast<std::uint8_t>(bits))} << 16;
  }
  return table;
}();

/// Two inputs of as many outputs as a packet has.
struct e4m3_pairs {
  packet<float> even, odd;
};

/// sum += the products of two neighbours of a row: of bf16 the second first, as tile_step<bf16,
/// bf16> does.
inline void add_pairs(packet<float>& sum, const float* x, const e4m3_pairs& w) {
  sum = multiply_add(broadcast<float>(x[0]), w.even, sum);
  sum = multiply_add(broadcast<float>(x[1]), w.odd, sum);
}
inline void add_pairs(packet<float>& sum, const bf16* x, const e4m3_pairs& w) {
  sum = multiply_add(broadcast<float>(static_cast<float>(x[1])), w.odd, sum);
  sum = multiply_add(broadcast<float>(static_cast<float>(x[0])), w.even, sum);
}

/// One step of a tile: `read` takes the numbers of outputs `n` on of two inputs [32][2], `add` has
/// both elements of a row and `add_last` the last of an odd number.
template <e4m3_form Form, class Left>
struct e4m3_step {
  using right = e4m3_pairs;

  static right read(const std::byte* w, index_t n) {
    const auto* const numbers = reinterpret_cast<const std::uint8_t*>(w) + 2 * n;
    constexpr index_t count = lanes<float>;
    std::uint32_t even[static_cast<std::size_t>(count)], odd[static_cast<std::size_t>(count)];
    for (index_t i = 0; i < count; ++i) {
      even[i] = e4m3_table[numbers[2 * i]];
      odd[i] = e4m3_table[numbers[2 * i + 1]];
    }
    right pairs;
    static_assert(sizeof(pairs.even) == sizeof(even));
    std::memcpy(static_cast<void*>(&pairs.even), even, sizeof(even));
    std::memcpy(static_cast<void*>(&pairs.odd), odd, sizeof(odd));
    return pairs;
  }
  static void add(packet<float>& sum, const Left* x, const right& w) { add_pairs(sum, x, w); }
  static void add_last(packet<float>& sum, Left x, const right& w) {
    sum = multiply_add(broadcast<float>(static_cast<float>(x)), w.even, sum);
  }
};

#if defined(MTP_CPU_HAS_WORD_VECTORS)
/// Two inputs of the 16 outputs from `n` on, as bf16 side by side.
inline __m512i read_e4m3(const std::byte* w, index_t n) {
  alignas(64) static constexpr auto small = [] {
    std::array<std::uint16_t, 32> table{};
    for (std::uint8_t bits = 0; bits < 8; ++bits) {
      table[bits] = bf16_bits_of_e4m3(bits);
    }
    return table;
  }();
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 2 * n));
  const __m512i words = _mm512_cvtepi8_epi16(bytes);  // with the sign where bf16 has it
  const __m512i magnitude = _mm512_and_si512(words, _mm512_set1_epi16(0x7f));
  const __m512i normal =
      _mm512_add_epi16(_mm512_slli_epi16(magnitude, 4), _mm512_set1_epi16(120 << 7));
  const __m512i value =
      _mm512_mask_permutexvar_epi16(normal,
                                    _mm512_cmplt_epu16_mask(magnitude, _mm512_set1_epi16(8)),
                                    magnitude,
                                    _mm512_load_si512(small.data()));
  constexpr int first_or_both_others = 0xf8;
  return _mm512_ternarylogic_epi32(
      value, words, _mm512_set1_epi16(static_cast<std::int16_t>(0x8000)), first_or_both_others);
}

template <class Left>
struct e4m3_step<e4m3_form::vectors, Left> : e4m3_step<e4m3_form::plain, Left> {
  static e4m3_pairs read(const std::byte* w, index_t n) {
    const __m512i pairs = read_e4m3(w, n);
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(pairs, upper))};
  }
};

#if defined(MTP_CPU_HAS_BF16_PRODUCTS)
template <>
struct e4m3_step<e4m3_form::vectors, bf16> {
  using right = __m512i;
  static right read(const std::byte* w, index_t n) { return read_e4m3(w, n); }
  static void add(packet<float>& sum, const bf16* x, right w) {
    tile_step<bf16, bf16>::add(sum, x, w);
  }
  static void add_last(packet<float>& sum, bf16 x, right w) {
    tile_step<bf16, bf16>::add(sum, pair_of(x), w);
  }
};
#endif
#endif

/// c[m][n] = the chain, from c[m][n] on, over the groups g of
///
///     fma(sum over k of the group of w[n, k] x[m, k], s[n, g], ..)
///
/// for `Rows` rows, x_stride apart, and the 32 outputs of a panel; the sum of a group is the chain
/// of products that rows of this type have, from zero on.  c [Rows][32]
template <e4m3_form Form, int Rows, class Left>
inline void multiply_e4m3_tile(
    const e4m3_layout& at, const std::byte* panel, const Left* x, index_t x_stride, float* c) {
  using step = e4m3_step<Form, Left>;
  constexpr index_t width = e4m3_layout::width, pair_bytes = 2 * width;
  constexpr index_t ahead = 4096;  // bytes, as other tiles of few rows do
  constexpr int columns = 2;       // packets of sums of a row
  for (index_t group = 0; group < at.groups(); ++group) {
    const std::byte* const numbers = panel + at.group_offset(0, group);
    const index_t inputs = at.inputs_of(group);
    for (index_t n = 0; n < width; n += columns * lanes<float>) {
      packet<float> sums[Rows][columns];
      unroll<Rows, columns>([&](int r, int q) __attribute__((always_inline)) {
        sums[r][q] = broadcast<float>(0.0f);
      });
      const std::byte* w = numbers;
      const Left* from = x + group * group_inputs;
      typename step::right right[columns];
      const auto read = [&]() __attribute__((always_inline)) {
        __builtin_prefetch(w + ahead);
        unroll<columns>([&](int q) __attribute__((always_inline)) {
          right[q] = step::read(w, n + q * lanes<float>);
        });
      };
      for (index_t k = 0; k + 2 <= inputs; k += 2) {
        read();
        unroll<Rows, columns>([&](int r, int q) __attribute__((always_inline)) {
          step::add(sums[r][q], from + r * x_stride, right[q]);
        });
        w += pair_bytes;
        from += 2;
      }
      if (inputs % 2 != 0) {
        read();
        unroll<Rows, columns>([&](int r, int q) __attribute__((always_inline)) {
          step::add_last(sums[r][q], from[r * x_stride], right[q]);
        });
      }
      const auto* const scales =
          reinterpret_cast<const float*>(numbers + at.scale_offset(0, group)) + n;
      unroll<Rows, columns>([&](int r, int q) __attribute__((always_inline)) {
        float* const to = c + r * width + n + q * lanes<float>;
        const auto scale = load<float>(scales + q * lanes<float>);
        store<float>(to, multiply_add(sums[r][q], scale, load<float>(to)));
      });
    }
  }
}

/// The same for a number of rows known at run time, 1 <= rows <= e4m3_tile_rows.
template <e4m3_form Form = fastest_e4m3, class Left>
inline void multiply_e4m3_rows(index_t rows,
                               const e4m3_layout& at,
                               const std::byte* panel,
                               const Left* x,
                               index_t x_stride,
                               float* c) {
  using function = void (*)(const e4m3_layout&, const std::byte*, const Left*, index_t, float*);
  static constexpr auto table = []<std::size_t... Row>(std::index_sequence<Row...>) {
    return std::array<function, sizeof...(Row)>{
        &multiply_e4m3_tile<Form, static_cast<int>(Row) + 1, Left>...};
  }
  (std::make_index_sequence<static_cast<std::size_t>(e4m3_tile_rows)>{});
  table[static_cast<std::size_t>(rows - 1)](at, panel, x, x_stride, c);
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
