// The innermost loop of products in 8 bits: a tile of rows times one panel of a weight.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "mtp/backend/cpu/multiply_tile.hpp"
#include "mtp/backend/cpu/quantized_layout.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/backend/cpu/split_rows.hpp"

#if defined(MTP_CPU_HAS_BYTE_PRODUCTS)
#include <immintrin.h>
#endif

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// How the integers are summed. All ways give the same sums, because none can overflow: a part of a
/// group has at most 128 * 255 * 128.
enum class dot_form {
  plain,  ///< with what the compiler makes of loops
  vnni,   ///< four products of bytes in one instruction, for each of 16 outputs
};

#if defined(MTP_CPU_HAS_BYTE_PRODUCTS)
inline constexpr dot_form fastest_dot = dot_form::vnni;
#else
inline constexpr dot_form fastest_dot = dot_form::plain;
#endif

/// Inputs of an output that are contiguous: what one lane of a dot product takes at a time.
inline constexpr index_t dot_inputs = int8_numbers::dot_inputs;

/// Rows of a tile at most, each of two parts: 20 registers of sums, two of weights.
inline constexpr int int8_tile_rows = 5;

/// How far ahead of a panel's stream a tile prefetches: 4 KB, as other tiles of few rows do.
inline constexpr index_t int8_prefetch = 4096;

/// sums[p][n] = start_p + sum over k of the bytes w[k / 4][n][k % 4] times x_p[k], where k counts
/// `inputs`, a multiple of 4.  sums [Parts][32], x [Parts], parts x_stride apart
template <dot_form Form, int Parts>
struct group_sums;

template <int Parts>
struct group_sums<dot_form::plain, Parts> {
  alignas(64) std::int32_t sums[static_cast<std::size_t>(Parts)][quantized_layout::width];

  void run(index_t inputs,
           const std::byte* w,
           const std::int8_t* x,
           index_t x_stride,
           const std::int32_t* starts,
           index_t groups) {
    constexpr index_t width = quantized_layout::width;
    for (int p = 0; p < Parts; ++p) {
      std::fill_n(sums[p], width, starts[p * groups]);
    }
    for (index_t k = 0; k < inputs; k += dot_inputs) {
      const auto* const four = reinterpret_cast<const std::uint8_t*>(w) + k * width;
      for (int p = 0; p < Parts; ++p) {
        const std::int8_t* const by = x + p * x_stride + k;
        for (index_t n = 0; n < width; ++n) {
          sums[p][n] += four[4 * n] * by[0] + four[4 * n + 1] * by[1] + four[4 * n + 2] * by[2] +
                        four[4 * n + 3] * by[3];
        }
      }
    }
  }

  /// 256 times the high part of a row plus the low one, from output `first` on.
  packet<float> as_float(int row, index_t first) const {
    float values[static_cast<std::size_t>(lanes<float>)];
    for (index_t i = 0; i < lanes<float>; ++i) {
      values[i] = static_cast<float>(256 * sums[2 * row][first + i] + sums[2 * row + 1][first + i]);
    }
    return load<float>(values);
  }
};

#if defined(MTP_CPU_HAS_BYTE_PRODUCTS)
template <int Parts>
struct group_sums<dot_form::vnni, Parts> {
  // Few parts have several sums for each output, because an instruction waits for the one before
  // it.
  static constexpr int chains = Parts == 2 ? 2 : 1;
  __m512i sums[Parts][2];

  __attribute__((always_inline)) void run(index_t inputs,
                                          const std::byte* w,
                                          const std::int8_t* x,
                                          index_t x_stride,
                                          const std::int32_t* starts,
                                          index_t groups) {
    constexpr index_t step_bytes = quantized_layout::width * dot_inputs;
    __m512i chain[chains][Parts][2];
    unroll<Parts, 2>([&](int p, int half) __attribute__((always_inline)) {
      chain[0][p][half] = _mm512_set1_epi32(starts[p * groups]);
      unroll<chains - 1>([&](int c) __attribute__((always_inline)) {
        chain[c + 1][p][half] = _mm512_setzero_si512();
      });
    });
    const auto step = [&](int c) __attribute__((always_inline)) {
      __builtin_prefetch(w + int8_prefetch);
      __builtin_prefetch(w + int8_prefetch + 64);
      const __m512i left = _mm512_loadu_si512(w);
      const __m512i right = _mm512_loadu_si512(w + 64);
      unroll<Parts>([&](int p) __attribute__((always_inline)) {
        std::int32_t four;
        __builtin_memcpy(&four, x + p * x_stride, sizeof(four));
        const __m512i by = _mm512_set1_epi32(four);
        chain[c][p][0] = _mm512_dpbusd_epi32(chain[c][p][0], left, by);
        chain[c][p][1] = _mm512_dpbusd_epi32(chain[c][p][1], right, by);
      });
      w += step_bytes;
      x += dot_inputs;
    };
    index_t k = 0;
    for (; k + chains * dot_inputs <= inputs; k += chains * dot_inputs) {
      unroll<chains>(step);
    }
    for (; k < inputs; k += dot_inputs) {
      step(0);
    }
    unroll<Parts, 2>([&](int p, int half) __attribute__((always_inline)) {
      sums[p][half] = chain[0][p][half];
      unroll<chains - 1>([&](int c) __attribute__((always_inline)) {
        sums[p][half] = _mm512_add_epi32(sums[p][half], chain[c + 1][p][half]);
      });
    });
  }

  /// 256 times the high part of a row plus the low one, from output `first` on.
  packet<float> as_float(int row, index_t first) const {
    const __m512i high = _mm512_slli_epi32(sums[2 * row][first / 16], 8);
    return _mm512_cvtepi32_ps(_mm512_add_epi32(high, sums[2 * row + 1][first / 16]));
  }
};
#endif

/// c[m][n] = the chain, from c[m][n] on, over the groups g of
///
///     fma(float(sum over k of the group of q[n, k] r[m, k]), s[n, g] t[m, g], ..)
///
/// for `Rows` rows and the 32 outputs of a panel.  c [Rows][32]
template <dot_form Form, int Rows>
inline void multiply_int8_tile(const quantized_layout& at,
                               const std::byte* panel,
                               const split_rows& x,
                               float* c) {
  constexpr index_t width = quantized_layout::width;
  for (index_t group = 0; group < x.groups; ++group) {
    const index_t inputs = at.padded_inputs(group);
    const std::byte* const w = panel + at.group_offset(0, group);
    const auto* const scales = reinterpret_cast<const bf16*>(w + width * inputs);
    group_sums<Form, split_rows::parts * Rows> sums;
    sums.run(inputs, w, x.numbers + group * group_inputs, x.stride(), x.starts + group, x.groups);
    for (index_t n = 0; n < width; n += lanes<float>) {
      const packet<float> of_outputs = load<float>(scales + n);
      for (int r = 0; r < Rows; ++r) {
        float* const to = c + r * width + n;
        const auto scale = multiply(of_outputs, broadcast<float>(x.scales[r * x.groups + group]));
        store<float>(to, multiply_add(sums.as_float(r, n), scale, load<float>(to)));
      }
    }
  }
}

/// The same for a number of rows known at run time, 1 <= rows <= int8_tile_rows.
template <dot_form Form = fastest_dot>
inline void multiply_int8_rows(index_t rows,
                               const quantized_layout& at,
                               const std::byte* panel,
                               const split_rows& x,
                               float* c) {
  using function = void (*)(const quantized_layout&, const std::byte*, const split_rows&, float*);
  static constexpr auto table = []<std::size_t... Row>(std::index_sequence<Row...>) {
    return std::array<function, sizeof...(Row)>{
        &multiply_int8_tile<Form, static_cast<int>(Row) + 1>...};
  }
  (std::make_index_sequence<static_cast<std::size_t>(int8_tile_rows)>{});
  table[static_cast<std::size_t>(rows - 1)](at, panel, x, c);
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
