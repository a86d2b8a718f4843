// Linear maps on the CPU. Contracts: ops/linear.hpp.
#pragma once

#include <algorithm>

#include "mtp/backend/cpu/quantized_linear.hpp"
#include "mtp/backend/cpu/run_product.hpp"
#include "mtp/backend/cpu/weight_layout.hpp"
#include "mtp/backend/cpu/widened.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Most rows for which a weight is widened in registers, once for each tile of rows.
inline constexpr index_t rows_of_narrow_weights = block_rows;

struct cpu_linear_ops {
  template <scalar Y, factor S, class Weight>
  static void linear_forward(cpu_context& context,
                             matrix_view<Y, cpu> y,
                             matrix_view<const S, cpu> x,
                             weight_view<const Weight, cpu> w) {
    run_product(context, forward_product(y, x, w));
  }

  template <factor S, class Weight>
  static void linear_bias_forward(cpu_context& context,
                                  matrix_view<S, cpu> y,
                                  matrix_view<const S, cpu> x,
                                  weight_view<const Weight, cpu> w,
                                  vector_view<const S, cpu> bias) {
    auto p = forward_product(y, x, w);
    p.init = panels_of<const S>::row_major(bias.data(), 0);
    run_product(context, p);
  }

  template <factor S, class Weight>
  static void linear_add_forward(cpu_context& context,
                                 matrix_view<S, cpu> y,
                                 matrix_view<const S, cpu> x,
                                 weight_view<const Weight, cpu> w,
                                 matrix_view<const S, cpu> residual) {
    auto p = forward_product(y, x, w);
    p.init = panels_of<const S>::row_major(residual.data(), residual.stride(0));
    run_product(context, p);
  }

  template <factor S>
  static void linear_backward_input(cpu_context& context,
                                    matrix_view<S, cpu> dx,
                                    matrix_view<const S, cpu> dy,
                                    weight_view<const S, cpu> w) {
    backward_input(context, dx, dy, w, {nullptr, 0, 0});
  }

  template <factor S>
  static void linear_add_backward_input(cpu_context& context,
                                        matrix_view<S, cpu> dx,
                                        matrix_view<const S, cpu> dy,
                                        weight_view<const S, cpu> w,
                                        matrix_view<const S, cpu> residual) {
    backward_input(
        context, dx, dy, w, panels_of<const S>::row_major(residual.data(), residual.stride(0)));
  }

  template <factor S>
  static void linear_backward_weight(cpu_context& context,
                                     weight_view<accumulate_t<S>, cpu> dw,
                                     matrix_view<const S, cpu> dy,
                                     matrix_view<const S, cpu> x) {
    run_product(context, weight_gradient_product<S>(dw, dy, x));
  }

  template <scalar S>
  static void linear_backward_bias(cpu_context& context,
                                   vector_view<accumulate_t<S>, cpu> dbias,
                                   matrix_view<const S, cpu> dy) {
    constexpr index_t columns = 64;
    context.parallel_ranges(dy.extent(1), columns, [&](index_t begin, index_t end, int) {
      accumulate_t<S> sum[columns];
      std::copy(dbias.data() + begin, dbias.data() + end, sum);
      for (index_t m = 0; m < dy.extent(0); ++m) {
        const S* row = dy.data() + m * dy.stride(0);
        for (index_t n = begin; n < end; ++n) {
          sum[n - begin] += widen(row[n]);
        }
      }
      std::copy_n(sum, end - begin, dbias.data() + begin);
    });
  }

  template <class Y, class X, class W>
  requires some_widened<Y, X>
  static void linear_forward(cpu_context& context, Y y, X x, W w) {
    map_widened(
        context, [&](auto... each) { linear_forward(context, each...); }, y, x, w);
  }

  template <class Y, class X, class W, class Addend>
  requires some_widened<Y, X, Addend>
  static void linear_bias_forward(cpu_context& context, Y y, X x, W w, Addend addend) {
    map_widened(
        context, [&](auto... each) { linear_bias_forward(context, each...); }, y, x, w, addend);
  }

  template <class Y, class X, class W, class Addend>
  requires some_widened<Y, X, Addend>
  static void linear_add_forward(cpu_context& context, Y y, X x, W w, Addend addend) {
    map_widened(
        context, [&](auto... each) { linear_add_forward(context, each...); }, y, x, w, addend);
  }

  template <class... Views>
  requires some_widened<Views...>
  static void linear_backward_input(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { linear_backward_input(context, each...); }, views...);
  }

  template <class... Views>
  requires some_widened<Views...>
  static void linear_add_backward_input(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { linear_add_backward_input(context, each...); }, views...);
  }

  template <class... Views>
  requires some_widened<Views...>
  static void linear_backward_weight(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { linear_backward_weight(context, each...); }, views...);
  }

  /// x W^T as a product, which reads the panels of W.
  template <scalar Y, factor S, class Weight>
  static product<S, Weight, Y> forward_product(matrix_view<Y, cpu> y,
                                               matrix_view<const S, cpu> x,
                                               weight_view<const Weight, cpu> w) {
    product<S, Weight, Y> p;
    p.rows = x.extent(0);
    p.columns = w.outputs;
    p.inner_size = w.inputs;
    p.a = {x.data(), x.stride(0), 1};
    p.b = w.data;
    p.b_panel = w.inputs * panel_width<S>;
    p.c = panels_of<Y>::row_major(y.data(), y.stride(0));
    return p;
  }

  /// dy W as a product, which reads the panels of the transpose of W.
  template <factor S>
  static product<S, S, S> input_gradient_product(matrix_view<S, cpu> dx,
                                                 matrix_view<const S, cpu> dy,
                                                 const S* transposed) {
    product<S, S, S> p;
    p.rows = dy.extent(0);
    p.columns = dx.extent(1);
    p.inner_size = dy.extent(1);
    p.a = {dy.data(), dy.stride(0), 1};
    p.b = transposed;
    p.b_panel = dy.extent(1) * panel_width<S>;
    p.c = panels_of<S>::row_major(dx.data(), dx.stride(0));
    return p;
  }

  /// dW += dy^T x as a product, which adds to the panels of dW.
  template <factor S>
  static product<S> weight_gradient_product(weight_view<accumulate_t<S>, cpu> dw,
                                            matrix_view<const S, cpu> dy,
                                            matrix_view<const S, cpu> x) {
    constexpr index_t width = panel_width<S>;
    product<S> p;
    p.rows = dw.inputs;
    p.columns = dw.outputs;
    p.inner_size = dy.extent(0);
    p.a = {x.data(), 1, x.stride(0)};
    p.b = dy.data();
    p.b_panel = width;
    p.b_step = dy.stride(0);
    p.c = {dw.data, width, dw.inputs * width};
    p.init = {dw.data, width, dw.inputs * width};
    return p;
  }

  /// The most bytes of workspace that the operations need for `rows` rows and a weight of this
  /// size.
  template <scalar S>
  static constexpr index_t linear_workspace(index_t rows,
                                            index_t outputs,
                                            index_t inputs,
                                            index_t threads) {
    if constexpr (factor<S>) {
      // In backward, the weight is transposed.
      return arena_bytes(weight_storage<S>(inputs, outputs), sizeof(S)) +
             product_workspace<S>((std::max)(outputs, inputs), threads);
    } else {
      // In backward, it is also widened for any number of rows.
      using A = accumulate_t<S>;
      return linear_workspace<A>(rows, outputs, inputs, threads) +
             widened_bytes<S>(weight_storage<S>(outputs, inputs)) +
             widened_bytes<S>(rows * inputs) + 2 * widened_bytes<S>(rows * outputs);
    }
  }

  /// The most bytes of workspace that the forward operations need for `rows` rows and such a
  /// weight.
  template <scalar S>
  static constexpr index_t linear_forward_workspace(index_t rows,
                                                    index_t outputs,
                                                    index_t inputs,
                                                    index_t threads) {
    return (std::max)(element_workspace<S>(rows, outputs, inputs, threads),
                      cpu_quantized_linear_ops::quantized_linear_workspace<S>(rows, inputs));
  }

 private:
  /// That of weights of elements.
  template <scalar S>
  static constexpr index_t element_workspace(index_t rows,
                                             index_t outputs,
                                             index_t inputs,
                                             index_t threads) {
    if constexpr (factor<S>) {
      return product_workspace<S>(inputs, threads);
    } else {
      return product_workspace<accumulate_t<S>>(inputs, threads) +
             (rows <= rows_of_narrow_weights
                  ? 0
                  : widened_bytes<S>(weight_storage<S>(outputs, inputs))) +
             widened_bytes<S>(rows * inputs) + 2 * widened_bytes<S>(rows * outputs);
    }
  }

  /// A forward operation with rows in f32. For few tiles of rows the weight is read as it is, and
  /// widened in registers; for many, a copy in f32 is worth it.
  template <class Operation, class Y, class X, class W, class... Addend>
  static void map_widened(
      cpu_context& context, const Operation& operation, Y y, X x, W w, Addend... addend) {
    if (x.extent(0) > rows_of_narrow_weights) {
      run_widened(context, operation, y, x, w, addend...);
      return;
    }
    run_widened(
        context,
        [&](auto wide_y, auto wide_x, auto... wide) { operation(wide_y, wide_x, w, wide...); },
        y,
        x,
        addend...);
  }

  template <factor S>
  static void backward_input(cpu_context& context,
                             matrix_view<S, cpu> dx,
                             matrix_view<const S, cpu> dy,
                             weight_view<const S, cpu> w,
                             panels_of<const S> init) {
    const arena::scope scope(context.workspace());
    S* transposed = context.workspace().template take<S>(weight_storage<S>(w.inputs, w.outputs));
    transpose_weight(context, transposed, w.data, w.outputs, w.inputs);
    auto p = input_gradient_product<S>(dx, dy, transposed);
    p.init = init;
    run_product(context, p);
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
