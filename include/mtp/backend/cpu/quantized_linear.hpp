// Linear maps by weights in 8 bits on the CPU. Contracts: ops/linear.hpp.
#pragma once

#include <algorithm>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/elementwise.hpp"
#include "mtp/backend/cpu/int8_tile.hpp"
#include "mtp/backend/cpu/quantize.hpp"
#include "mtp/backend/cpu/run_product.hpp"
#include "mtp/backend/cpu/split_rows.hpp"
#include "mtp/core/arena.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Elements that one thread quantizes in less time than others need to begin.
inline constexpr index_t serial_elements = 1 << 14;

struct cpu_quantized_linear_ops {
  /// y = x W^T, from the rows of `start` on, `start_stride` apart, if there are any.
  template <scalar Y, scalar S>
  requires std::same_as < accumulate_t<S>,
  float > static void quantized_linear_forward(cpu_context& context,
                                               matrix_view<Y, cpu> y,
                                               matrix_view<const S, cpu> x,
                                               weight_view<const S, cpu> w,
                                               const S* start,
                                               index_t start_stride) {
    const index_t M = x.extent(0);
    const quantized_layout at{w.outputs, w.inputs};
    const arena::scope scope(context.workspace());
    const auto rows = split_rows::make(context.workspace(), M, w.inputs);
    const auto quantize = [&](index_t m, int) {
      rows.set(m, x.data() + m * x.stride(0), w.inputs);
    };
    if (M * w.inputs <= serial_elements) {
      for (index_t m = 0; m < M; ++m) {
        quantize(m, 0);
      }
    } else {
      context.parallel(M, quantize);
    }
    const auto multiply = [&](index_t panel_begin, index_t panel_end) {
      for (index_t panel = panel_begin; panel < panel_end; ++panel) {
        for (index_t m = 0; m < M; m += int8_tile_rows) {
          multiply_tile_of(at, w.quantized, rows, m, panel, y, start, start_stride);
        }
      }
    };
    const index_t panels = at.panels();
    // An eighth of the time of as many multiply-adds in f32.
    if (context.threads() == 1 || M * w.outputs * w.inputs <= 4 * serial_work) {
      multiply(0, panels);
      return;
    }
    constexpr index_t per_thread = 4;
    const index_t tasks = (std::min)(panels, context.threads() * per_thread);
    context.parallel(tasks, [&](index_t task, int) {
      multiply(panels * task / tasks, panels * (task + 1) / tasks);
    });
  }

  /// The most bytes of workspace that these operations need.
  static constexpr index_t quantized_linear_workspace(index_t rows, index_t inputs) {
    return bytes_taken([=](arena_plan& plan) { return split_rows::make(plan, rows, inputs); });
  }

 private:
  /// The tile of rows from `m` on and one panel, in a buffer: the last panel has fewer outputs, and
  /// y may have another element type.
  template <scalar Y, scalar S>
  static void multiply_tile_of(const quantized_layout& at,
                               const std::byte* weight,
                               const split_rows& x,
                               index_t m,
                               index_t panel,
                               matrix_view<Y, cpu> y,
                               const S* start,
                               index_t start_stride) {
    constexpr index_t width = quantized_layout::width;
    const index_t rows = (std::min<index_t>)(int8_tile_rows, y.extent(0) - m);
    const index_t first = panel * width;
    const index_t valid = (std::min)(width, at.outputs - first);
    alignas(64) float c[static_cast<std::size_t>(int8_tile_rows * width)];
    std::fill_n(c, rows * width, 0.0f);
    for (index_t r = 0; r < rows && start != nullptr; ++r) {
      const S* const from = start + (m + r) * start_stride + first;
      for (index_t n = 0; n < valid; ++n) {
        c[r * width + n] = widen(from[n]);
      }
    }
    multiply_int8_rows(rows, at, weight + at.group_offset(panel, 0), x.from(m), c);
    for (index_t r = 0; r < rows; ++r) {
      Y* const to = y.data() + (m + r) * y.stride(0) + first;
      for (index_t n = 0; n < valid; ++n) {
        to[n] = narrow<Y>(c[r * width + n]);
      }
    }
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
