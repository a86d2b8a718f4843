// Panels: the layout of weights in memory on the CPU.
#pragma once

#include <algorithm>

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

/// to = the panels of the transpose of W: [inputs / width][outputs][width].
template <real S>
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
      for (index_t n = 0; n < count; ++n) {
        S* row = rows + (n0 + n) * width;
        for (index_t k = 0; k < valid; ++k) {
          row[k] = tile[k * width + n];
        }
        std::fill(row + valid, row + width, S{0});
      }
    }
  });
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
