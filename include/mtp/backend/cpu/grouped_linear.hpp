// Linear maps of experts on the CPU. Contracts: ops/grouped_linear.hpp.
#pragma once

#include <algorithm>

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

  /// Panels of the transpose of an expert's matrix are made where they are multiplied, so they come
  /// from the cache, and none is made for an expert without rows.
  template <factor S>
  static void grouped_linear_backward_input(cpu_context& context,
                                            matrix_view<S, cpu> dx,
                                            matrix_view<const S, cpu> dy,
                                            weight_view<const S, cpu> w,
                                            offsets_view offsets) {
    constexpr index_t width = panel_width<S>;
    const index_t N = dy.extent(1), K = dx.extent(1), E = experts(offsets);
    const index_t panels = ceil_div(K, width);
    const index_t pieces = ceil_div(panels, transposed_panels);  // of a matrix
    const arena::scope scope(context.workspace());
    const auto memory = product_memory<S>::take(context, true, product_sums<S, S>(N));
    S* const transposed =
        context.workspace().template take<S>(context.threads() * transposed_storage<S>(N));
    auto* const first_task = context.workspace().template take<index_t>(E + 1);  // of each expert
    first_task[0] = 0;
    for (index_t e = 0; e < E; ++e) {
      const index_t rows = offsets(e + 1) - offsets(e);
      first_task[e + 1] = first_task[e] + ceil_div(rows, packed_rows) * pieces;
    }
    const auto run = [&](index_t task, int thread) {
      const index_t e = std::upper_bound(first_task, first_task + E + 1, task) - first_task - 1;
      const index_t begin = (task - first_task[e]) % pieces * transposed_panels;
      const index_t end = (std::min)(begin + transposed_panels, panels);
      S* const own = transposed + thread * transposed_storage<S>(N);
      for (index_t panel = begin; panel < end; ++panel) {
        transpose_panel(own + (panel - begin) * N * width, w.rows(e * N, N).data, N, K, panel);
      }
      auto p = cpu_linear_ops::input_gradient_product<S>(
          group(dx, offsets, e).slice(1, begin * width, (std::min)(end * width, K) - begin * width),
          group(dy, offsets, e),
          own);
      p.copies_rows = worth_copying(p);
      const index_t row = (task - first_task[e]) / pieces * packed_rows;
      multiply_block(p,
                     row,
                     (std::min)(row + packed_rows, p.rows),
                     index_t{0},
                     p.panels(),
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
      return arena_bytes(threads * transposed_storage<S>(outputs), sizeof(S)) +
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
  /// Elements of these, for matrices of N outputs.
  template <scalar S>
  static constexpr index_t transposed_storage(index_t N) {
    return transposed_panels * panel_width<S> * N;
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
