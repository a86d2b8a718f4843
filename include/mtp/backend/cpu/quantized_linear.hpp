// Linear maps by weights in 8 bits on the CPU. Contracts: ops/linear.hpp, ops/grouped_linear.hpp,
// ops/head_linear.hpp.
#pragma once

#include <algorithm>
#include <concepts>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/e4m3_tile.hpp"
#include "mtp/backend/cpu/elementwise.hpp"
#include "mtp/backend/cpu/int8_tile.hpp"
#include "mtp/backend/cpu/quantize.hpp"
#include "mtp/backend/cpu/run_product.hpp"
#include "mtp/backend/cpu/split_rows.hpp"
#include "mtp/backend/cpu/widened.hpp"
#include "mtp/core/arena.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Elements that one thread quantizes in less time than others need to begin.
inline constexpr index_t serial_elements = 1 << 14;

/// Rows as weights in integers multiply them.
struct int8_rows {
  using layout = quantized_layout;
  static constexpr int tile_rows = int8_tile_rows;
  /// An eighth of the time of as many multiply-adds in f32.
  static constexpr index_t serial_products = 4 * serial_work;
  split_rows rows;

  void multiply(
      index_t m, index_t count, const layout& at, const std::byte* panel, float* c) const {
    multiply_int8_rows(count, at, panel, rows.from(m), c);
  }
};

/// Rows as weights in FP8 multiply them: as they are.
template <factor S>
struct e4m3_rows {
  using layout = e4m3_layout;
  static constexpr int tile_rows = e4m3_tile_rows;
  static constexpr index_t serial_products = serial_work;
  matrix_view<const S, cpu> rows;

  void multiply(
      index_t m, index_t count, const layout& at, const std::byte* panel, float* c) const {
    multiply_e4m3_rows(count, at, panel, rows.data() + m * rows.stride(0), rows.stride(0), c);
  }
};

/// The same for a weight in e4m3_transposed: `at` is that of a block, and the groups of a sum are
/// the blocks.
template <factor S>
struct transposed_e4m3_rows : e4m3_rows<S> {
  using e4m3_rows<S>::rows;

  void multiply(
      index_t m, index_t count, const e4m3_layout& at, const std::byte* panel, float* c) const {
    const S* const x = rows.data() + m * rows.stride(0);
    for (index_t n = 0; n < rows.extent(1); n += group_inputs) {
      multiply_e4m3_rows(count, at, panel, x + n, rows.stride(0), c);
      panel += at.bytes();
    }
  }
};

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
    const index_t all[] = {0, x.extent(0)};
    // So many tasks that no thread waits long for another.
    constexpr index_t tasks_of_thread = 4;
    with_rows(context, x, w, [&](const auto& rows) {
      multiply_groups(context,
                      rows,
                      tasks_of_thread * context.threads(),
                      y,
                      w,
                      vector_view<const index_t, cpu>(all, dims<1>{2}),
                      start,
                      start_stride);
    });
  }

  /// The same for the rows of each expert and its part of W.
  template <scalar S>
  requires std::same_as < accumulate_t<S>,
  float > static void quantized_grouped_linear_forward(cpu_context& context,
                                                       matrix_view<S, cpu> y,
                                                       matrix_view<const S, cpu> x,
                                                       weight_view<const S, cpu> w,
                                                       vector_view<const index_t, cpu> offsets) {
    with_rows(context, x, w, [&](const auto& rows) {
      multiply_groups(
          context, rows, context.threads(), y, w, offsets, static_cast<const S*>(nullptr), 0);
    });
  }

  /// The linear maps of heads, by weights in FP8.
  template <scalar S>
  requires std::same_as < accumulate_t<S>,
  float > static void quantized_head_linear_forward(cpu_context& context,
                                                    view<S, dims<3>, cpu> y,
                                                    view<const S, dims<3>, cpu> x,
                                                    weight_view<const S, cpu> w) {
    const e4m3_layout part{y.extent(2), w.inputs};
    multiply_heads<e4m3_rows>(context, y, x, w.quantized, part, part.bytes());
  }
  template <scalar S>
  requires std::same_as < accumulate_t<S>,
  float > static void quantized_head_linear_backward_input(cpu_context& context,
                                                           view<S, dims<3>, cpu> dx,
                                                           view<const S, dims<3>, cpu> dy,
                                                           weight_view<const S, cpu> w) {
    const e4m3_layout block = transposed_block(w.inputs);
    multiply_heads<transposed_e4m3_rows>(
        context, dx, dy, w.quantized, block, dy.extent(2) / group_inputs * block.bytes());
  }

  /// The most bytes of workspace that these operations need.
  template <scalar S>
  static constexpr index_t quantized_linear_workspace(index_t rows, index_t inputs) {
    if constexpr (std::same_as<accumulate_t<S>, float>) {
      const index_t split =
          bytes_taken([=](arena_plan& plan) { return split_rows::make(plan, rows, inputs); });
      return (std::max)(split, factor<S> ? 0 : widened_bytes<S>(rows * inputs));
    } else {
      return 0;
    }
  }

 private:
  /// Calls function(rows) with the rows in the form that the weight's format asks for.
  template <scalar S, class Function>
  static void with_rows(cpu_context& context,
                        matrix_view<const S, cpu> x,
                        const weight_view<const S, cpu>& w,
                        const Function& function) {
    if (w.format == quantized_format::int8) {
      const arena::scope scope(context.workspace());
      function(int8_rows{split(context, x)});
    } else if constexpr (factor<S>) {
      function(e4m3_rows<S>{x});
    } else {
      run_widened(
          context, [&](auto wide_x) { function(e4m3_rows<accumulate_t<S>>{wide_x}); }, x);
    }
  }

  template <scalar S>
  static split_rows split(cpu_context& context, matrix_view<const S, cpu> x) {
    const index_t M = x.extent(0), K = x.extent(1);
    const auto rows = split_rows::make(context.workspace(), M, K);
    const auto quantize = [&](index_t m, int) { rows.set(m, x.data() + m * x.stride(0), K); };
    if (M * K <= serial_elements) {
      for (index_t m = 0; m < M; ++m) {
        quantize(m, 0);
      }
    } else {
      context.parallel(M, quantize);
    }
    return rows;
  }

  /// The rows of each group times its part of the weight, in at most `most_tasks` tasks for a
  /// group.
  template <class Rows, scalar Y, scalar S>
  static void multiply_groups(cpu_context& context,
                              const Rows& rows,
                              index_t most_tasks,
                              matrix_view<Y, cpu> y,
                              const weight_view<const S, cpu>& w,
                              vector_view<const index_t, cpu> offsets,
                              const S* start,
                              index_t start_stride) {
    const index_t N = y.extent(1), groups = offsets.extent(0) - 1;
    const typename Rows::layout at{N, w.inputs};  // of the part of a group
    const index_t panels = at.panels();
    const index_t tasks = (std::min)(panels, most_tasks);
    const auto multiply = [&](index_t group, index_t panel_begin, index_t panel_end) {
      const std::byte* const part = w.quantized + group * at.bytes();
      for (index_t panel = panel_begin; panel < panel_end; ++panel) {
        for (index_t m = offsets(group); m < offsets(group + 1); m += Rows::tile_rows) {
          const index_t count = (std::min<index_t>)(Rows::tile_rows, offsets(group + 1) - m);
          multiply_tile_of(rows, at, part, m, count, panel, y, start, start_stride);
        }
      }
    };
    if (context.threads() == 1 || y.count() * w.inputs <= Rows::serial_products) {
      for (index_t group = 0; group < groups; ++group) {
        multiply(group, 0, panels);
      }
      return;
    }
    context.parallel(groups * tasks, [&](index_t i, int) {
      const index_t task = i % tasks;
      multiply(i / tasks, panels * task / tasks, panels * (task + 1) / tasks);
    });
  }

  /// The rows of each head times its part of the weight, part_bytes long.
  template <template <class> class Rows, scalar Y, scalar S>
  static void multiply_heads(cpu_context& context,
                             view<Y, dims<3>, cpu> y,
                             view<const S, dims<3>, cpu> x,
                             const std::byte* w,
                             const e4m3_layout& at,
                             index_t part_bytes) {
    if constexpr (!factor<S>) {
      run_widened(
          context,
          [&](auto wide_x) { multiply_heads<Rows>(context, y, wide_x, w, at, part_bytes); },
          x);
    } else {
      const index_t M = y.extent(0), H = y.extent(1);
      const auto multiply = [&](index_t h, int) {
        const Rows<S> rows{{matrix_view<const S, cpu>(
            x.data() + h * x.stride(1), {M, x.extent(2)}, {x.stride(0), 1})}};
        const matrix_view<Y, cpu> to(
            y.data() + h * y.stride(1), {M, y.extent(2)}, {y.stride(0), 1});
        for (index_t panel = 0; panel < at.panels(); ++panel) {
          for (index_t m = 0; m < M; m += e4m3_tile_rows) {
            multiply_tile_of(rows,
                             at,
                             w + h * part_bytes,
                             m,
                             (std::min<index_t>)(e4m3_tile_rows, M - m),
                             panel,
                             to,
                             static_cast<const Y*>(nullptr),
                             0);
          }
        }
      };
      if (context.threads() == 1 || y.count() * x.extent(2) <= e4m3_rows<S>::serial_products) {
        for (index_t h = 0; h < H; ++h) {
          multiply(h, 0);
        }
      } else {
        context.parallel(H, multiply);
      }
    }
  }

  /// The tile of `count` rows from `m` on and one panel, in a buffer: the last panel has fewer
  /// outputs, and y may have another element type.
  template <class Rows, scalar Y, scalar S>
  static void multiply_tile_of(const Rows& x,
                               const typename Rows::layout& at,
                               const std::byte* weight,
                               index_t m,
                               index_t count,
                               index_t panel,
                               matrix_view<Y, cpu> y,
                               const S* start,
                               index_t start_stride) {
    constexpr index_t width = Rows::layout::width;
    const index_t first = panel * width;
    const index_t valid = (std::min)(width, at.outputs - first);
    alignas(64) float c[static_cast<std::size_t>(Rows::tile_rows * width)];
    std::fill_n(c, count * width, 0.0f);
    for (index_t r = 0; r < count && start != nullptr; ++r) {
      const S* const from = start + (m + r) * start_stride + first;
      for (index_t n = 0; n < valid; ++n) {
        c[r * width + n] = widen(from[n]);
      }
    }
    x.multiply(m, count, at, weight + at.group_offset(panel, 0), c);
    for (index_t r = 0; r < count; ++r) {
      Y* const to = y.data() + (m + r) * y.stride(0) + first;
      for (index_t n = 0; n < valid; ++n) {
        to[n] = narrow<Y>(c[r * width + n]);
      }
    }
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
