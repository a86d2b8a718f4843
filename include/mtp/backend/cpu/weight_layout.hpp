// Panels: the layout of weights in memory on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/product.hpp"
#include "mtp/backend/cpu/transpose.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// W[outputs, inputs] is stored as [outputs / width][inputs][width]: the weights of neighbouring
/// outputs for one input are contiguous, in the order in which products read them. Outputs are
/// padded with zeros.
template <scalar S>
constexpr index_t weight_storage(index_t outputs, index_t inputs) {
  return round_up(outputs, panel_width<S>) * inputs;
}

template <scalar S>
constexpr index_t weight_offset(index_t output, index_t input, index_t, index_t inputs) {
  constexpr index_t width = panel_width<S>;
  return (output / width * inputs + input) * width + output % width;
}

#if defined(EIGEN_VECTORIZE_AVX512)
/// Transposes [width][width].
inline void transpose_tile(float* to, const float* from) {
  constexpr int width = panel_width<float>;
  static_assert(width == 32);
  unroll<2, 2>([&](int i, int j) __attribute__((always_inline)) {
    transpose_block(to + 16 * (j * width + i), from + 16 * (i * width + j), width);
  });
}
#endif

#if defined(MTP_CPU_HAS_BF16_PRODUCTS)
/// The same.
inline void transpose_tile(bf16* to, const bf16* from) {
  constexpr int width = panel_width<bf16>;
  static_assert(width == 32);
  __m512i rows[width], turned[width];
  unroll<width>([&](int i) __attribute__((always_inline)) {
    rows[i] = _mm512_loadu_si512(from + i * width);
  });
  unroll<5>([&](int) __attribute__((always_inline)) {
    unroll<width / 2>([&](int i) __attribute__((always_inline)) {
      turned[2 * i] = interleave_rows(rows[i], rows[i + width / 2], 0);
      turned[2 * i + 1] = interleave_rows(rows[i], rows[i + width / 2], width / 2);
    });
    unroll<width>([&](int i) __attribute__((always_inline)) { rows[i] = turned[i]; });
  });
  unroll<width>([&](int i) __attribute__((always_inline)) {
    _mm512_storeu_si512(to + i * width, rows[i]);
  });
}
#endif

/// Outputs [n0, n0 + width) of panel number `panel` of the transpose of W, which begins at `to`:
/// for each output the inputs [width panel, width panel + width).
template <scalar S>
inline void transpose_part(
    S* to, const S* from, index_t outputs, index_t inputs, index_t panel, index_t n0) {
  constexpr index_t width = panel_width<S>;
  const index_t first = panel * width;
  const index_t valid = (std::min)(width, inputs - first);
  const index_t count = (std::min)(width, outputs - n0);
  const S* tile = from + (n0 * inputs + first * width);
  if constexpr (requires { transpose_tile(to, from); }) {
    if (count == width && valid == width) {
      transpose_tile(to + n0 * width, tile);
      return;
    }
  }
  for (index_t n = 0; n < count; ++n) {
    S* row = to + (n0 + n) * width;
    for (index_t k = 0; k < valid; ++k) {
      row[k] = tile[k * width + n];
    }
    std::fill(row + valid, row + width, S(0));
  }
}

/// All of that panel.
template <scalar S>
inline void transpose_panel(S* to, const S* from, index_t outputs, index_t inputs, index_t panel) {
  for (index_t n0 = 0; n0 < outputs; n0 += panel_width<S>) {
    transpose_part(to, from, outputs, inputs, panel, n0);
  }
}

/// to = the panels of the transpose of W: [inputs / width][outputs][width].
template <scalar S>
inline void transpose_weight(
    cpu_context& context, S* to, const S* from, index_t outputs, index_t inputs) {
  constexpr index_t width = panel_width<S>;
  context.parallel(ceil_div(inputs, width), [&](index_t panel, int) {
    transpose_panel(to + panel * width * outputs, from, outputs, inputs, panel);
  });
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
