// Linear maps of experts on the CPU. Contracts: ops/grouped_linear.hpp.
#pragma once

#include <algorithm>

#include "mtp/backend/cpu/lane_product.hpp"
#include "mtp/backend/cpu/linear.hpp"
#include "mtp/backend/cpu/run_product.hpp"
#include "mtp/backend/cpu/weight_layout.hpp"
#include "mtp/backend/cpu/widened.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_grouped_linear_ops {
  using offsets_view = vector_view<const index_t, cpu>;

  template <scalar Y, factor S, class Weight>
  static void grouped_linear_forward(cpu_context& context,
                                     matrix_view<Y, cpu> y,
                                     matrix_view<const S, cpu> x,
                                     weight_view<const Weight, cpu> w,
                                     offsets_view offsets) {
    const index_t N = y.extent(1);
    run_products(context, experts(offsets), [&](index_t e) {
      return cpu_linear_ops::forward_product(
          group(y, offsets, e), group(x, offsets, e), w.rows(e * N, N));
    });
  }

  /// Experts with some rows have these as lanes, and their matrices are read as they are.
  /// Those of fewer rows, or of pairs, are transposed where they are multiplied, so that panels
  /// come from the cache. None is touched for an expert without rows.
  template <factor S>
  static void grouped_linear_backward_input(cpu_context& context,
                                            matrix_view<S, cpu> dx,
                                            matrix_view<const S, cpu> dy,
                                            weight_view<const S, cpu> w,
                                            offsets_view offsets) {
    const index_t N = dy.extent(1), E = experts(offsets);
    const arena::scope scope(context.workspace());
    const auto memory = product_memory<S>::take(context, true, product_sums<S, S>(N));
    S* const scratch =
        context.workspace().template take<S>(context.threads() * input_scratch<S>(N));
    auto* const first_task = context.workspace().template take<index_t>(E + 1);  // of each expert
    first_task[0] = 0;
    for (index_t e = 0; e < E; ++e) {
      first_task[e + 1] = first_task[e] + input_tasks<S>(offsets(e + 1) - offsets(e), dx.extent(1));
    }
    const auto run = [&](index_t task, int thread) {
      const index_t e = std::upper_bound(first_task, first_task + E + 1, task) - first_task - 1;
      S* const own = scratch + thread * input_scratch<S>(N);
      const auto part = w.rows(e * N, N);
      const auto to = group(dx, offsets, e);
      const auto from = group(dy, offsets, e);
      if constexpr (real<S>) {
        if (by_lanes<S>(to.extent(0))) {
          run_lanes(to, from, part, task - first_task[e], own);
          return;
        }
      }
      run_transposed(to,
                     from,
                     part,
                     task - first_task[e],
                     own,
                     memory.scratch + thread * product_scratch<S>,
                     memory.sums + thread * memory.sums_count);
    };
    if (context.threads() == 1 || dx.count() * N <= serial_work) {
      for (index_t task = 0; task < first_task[E]; ++task) {
        run(task, 0);
      }
    } else {
      context.parallel(first_task[E], run);
    }
  }

  template <factor S>
  static void grouped_linear_backward_weight(cpu_context& context,
                                             weight_view<accumulate_t<S>, cpu> dw,
                                             matrix_view<const S, cpu> dy,
                                             matrix_view<const S, cpu> x,
                                             offsets_view offsets) {
    const index_t N = dy.extent(1);
    run_products(context, experts(offsets), [&](index_t e) {
      auto p = cpu_linear_ops::weight_gradient_product<S>(
          dw.rows(e * N, N), group(dy, offsets, e), group(x, offsets, e));
      p.rows = p.inner_size > 0 ? p.rows : 0;  // nothing is added
      return p;
    });
  }

  /// Weights are widened in registers: a copy would be one of all experts.
  template <class Y, class X, class W>
  requires some_widened<Y, X>
  static void grouped_linear_forward(cpu_context& context, Y y, X x, W w, offsets_view offsets) {
    run_widened(
        context,
        [&](auto wide_y, auto wide_x) {
          grouped_linear_forward(context, wide_y, wide_x, w, offsets);
        },
        y,
        x);
  }

  template <class... Views>
  requires some_widened<Views...>
  static void grouped_linear_backward_input(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { grouped_linear_backward_input(context, each...); }, views...);
  }

  template <class... Views>
  requires some_widened<Views...>
  static void grouped_linear_backward_weight(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { grouped_linear_backward_weight(context, each...); }, views...);
  }

  /// The most bytes of workspace that the operations need for `rows` rows in all and the matrices
  /// of E experts, each of this size.
  template <scalar S>
  static constexpr index_t grouped_linear_workspace(
      index_t rows, index_t E, index_t outputs, index_t inputs, index_t threads) {
    if constexpr (factor<S>) {
      return arena_bytes(threads * input_scratch<S>(outputs), sizeof(S)) +
             products_workspace<S>(E, (std::max)(outputs, inputs), threads);
    } else {
      using A = accumulate_t<S>;
      return grouped_linear_workspace<A>(rows, E, outputs, inputs, threads) +
             widened_bytes<S>(weight_storage<S>(E * outputs, inputs)) +
             widened_bytes<S>(rows * inputs) + widened_bytes<S>(rows * outputs);
    }
  }

  /// The same for the forward operation.
  template <scalar S>
  static constexpr index_t grouped_linear_forward_workspace(
      index_t rows, index_t E, index_t outputs, index_t inputs, index_t threads) {
    const index_t of_elements =
        products_workspace<factor_type<S>>(E, inputs, threads) +
        (factor<S> ? 0 : widened_bytes<S>(rows * inputs) + widened_bytes<S>(rows * outputs));
    return (std::max)(of_elements,
                      cpu_quantized_linear_ops::quantized_linear_workspace<S>(rows, inputs));
  }

 private:
  /// Panels of a transpose that a task makes at a time: what a tile of few rows wants.
  static constexpr index_t transposed_panels = 4;
  /// Inputs of dx that a task with rows as lanes computes, for which it packs the rows once.
  static constexpr index_t task_inputs = 16 * lane_inputs;

  /// Whether an expert with so many rows has them as lanes: fewer would leave most lanes idle, and
  /// for more a transpose pays.
  template <scalar S>
  static constexpr bool by_lanes(index_t rows) {
    return real<S> && rows >= tile_rows && rows < packed_rows / 2;
  }
  /// Elements that a thread needs for the gradient of rows, for matrices of N outputs.
  template <scalar S>
  static constexpr index_t input_scratch(index_t N) {
    constexpr index_t transposed = transposed_panels * panel_width<S>;
    if constexpr (real<S>) {
      return (std::max)(transposed * N, lane_scratch<S>(N));
    } else {
      return transposed * N;
    }
  }
  /// Tasks of an expert with so many rows, of K inputs.
  template <scalar S>
  static constexpr index_t input_tasks(index_t rows, index_t K) {
    if constexpr (real<S>) {
      if (by_lanes<S>(rows)) {
        return ceil_div(rows, lane_rows<S>) * ceil_div(K, task_inputs);
      }
    }
    return ceil_div(rows, packed_rows) * ceil_div(K, transposed_panels * panel_width<S>);
  }

  template <real S>
  static void run_lanes(matrix_view<S, cpu> dx,
                        matrix_view<const S, cpu> dy,
                        weight_view<const S, cpu> w,
                        index_t task,
                        S* scratch) {
    const index_t N = w.outputs, K = w.inputs, pieces = ceil_div(K, task_inputs);
    const index_t first = task / pieces * lane_rows<S>, begin = task % pieces * task_inputs;
    const index_t rows = (std::min)(lane_rows<S>, dx.extent(0) - first);
    pack_lanes(scratch, dy.data() + first * dy.stride(0), dy.stride(0), rows, N);
    multiply_lanes(dx.slice(0, first, rows),
                   scratch,
                   w.data,
                   N,
                   begin,
                   (std::min)(begin + task_inputs, K),
                   scratch + lane_rows<S> * N);
  }

  template <factor S>
  static void run_transposed(matrix_view<S, cpu> dx,
                             matrix_view<const S, cpu> dy,
                             weight_view<const S, cpu> w,
                             index_t task,
                             S* transposed,
                             S* scratch,
                             accumulate_t<S>* sums) {
    constexpr index_t width = panel_width<S>;
    const index_t N = w.outputs, K = w.inputs, panels = ceil_div(K, width);
    const index_t pieces = ceil_div(panels, transposed_panels);
    const index_t begin = task % pieces * transposed_panels;
    const index_t end = (std::min)(begin + transposed_panels, panels);
    for (index_t panel = begin; panel < end; ++panel) {
      transpose_panel(transposed + (panel - begin) * N * width, w.data, N, K, panel);
    }
    auto p = cpu_linear_ops::input_gradient_product<S>(
        dx.slice(1, begin * width, (std::min)(end * width, K) - begin * width), dy, transposed);
    p.copies_rows = worth_copying(p);
    const index_t row = task / pieces * packed_rows;
    multiply_block(
        p, row, (std::min)(row + packed_rows, p.rows), index_t{0}, p.panels(), scratch, sums);
  }

  static index_t experts(offsets_view offsets) { return offsets.extent(0) - 1; }

  /// The rows of an expert.
  template <class Element>
  static matrix_view<Element, cpu> group(const matrix_view<Element, cpu>& rows,
                                         offsets_view offsets,
                                         index_t e) {
    return rows.slice(0, offsets(e), offsets(e + 1) - offsets(e));
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
