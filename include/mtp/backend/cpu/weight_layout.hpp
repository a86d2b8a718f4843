// Panels: the layout of weights in memory on the CPU.
#pragma once

#include <algorithm>
#include <type_traits>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/product.hpp"

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

#if defined(MTP_CPU_HAS_BF16_PRODUCTS)
/// Transposes [width][width]. Interleaving row i with row i + width / 2 rotates the bits of the
/// index of each element by one, and as many times as an index has bits exchange row and column.
inline void transpose_tile(bf16* to, const bf16* from) {
  constexpr int width = panel_width<bf16>;
  static_assert(width == 32);
  __m512i rows[width], turned[width];
  unroll<width>([&](int i) { rows[i] = _mm512_loadu_si512(from + i * width); });
  unroll<5>([&](int) {
    unroll<width / 2>([&](int i) {
      turned[2 * i] = interleave_rows(rows[i], rows[i + width / 2], 0);
      turned[2 * i + 1] = interleave_rows(rows[i], rows[i + width / 2], width / 2);
    });
    unroll<width>([&](int i) { rows[i] = turned[i]; });
  });
  unroll<width>([&](int i) { _mm512_storeu_si512(to + i * width, rows[i]); });
}
#endif

/// to = the panels of the transpose of W: [inputs / width][outputs][width].
template <scalar S>
inline void transpose_weight(
    cpu_context& context, S* to, const S* from, index_t outputs, index_t inputs) {
  constexpr index_t width = panel_width<S>;
  context.parallel(ceil_div(inputs, width), [&](index_t panel, int) {
    const index_t first = panel * width;
    const index_t valid = (std::min)(width, inputs - first);
    S* const rows = to + first * outputs;
    for (index_t n0 = 0; n0 < outputs; n0 += width) {
      const index_t count = (std::min)(width, outputs - n0);
      const S* tile = from + (n0 * inputs + first * width);
#if defined(MTP_CPU_HAS_BF16_PRODUCTS)
      if constexpr (std::is_same_v<S, bf16>) {
        if (count == width && valid == width) {
          transpose_tile(rows + n0 * width, tile);
          continue;
        }
      }
#endif
      for (index_t n = 0; n < count; ++n) {
        S* row = rows + (n0 + n) * width;
        for (index_t k = 0; k < valid; ++k) {
          row[k] = tile[k * width + n];
        }
        std::fill(row + valid, row + width, S(0));
      }
    }
  });
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
