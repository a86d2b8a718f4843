// Linear maps of heads on the CPU. Contracts: ops/head_linear.hpp.
#pragma once

#include <algorithm>

#include "mtp/backend/cpu/run_product.hpp"
#include "mtp/backend/cpu/weight_layout.hpp"
#include "mtp/backend/cpu/widened.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// One parallel region over heads. The part of a head is whole panels, so its products are those of
/// a linear map. A weight of a storage type that products do not multiply is widened in registers.
struct cpu_head_linear_ops {
  template <class S>
  using heads = view<S, dims<3>, cpu>;

  template <factor S, scalar Weight>
  static void head_linear_forward(cpu_context& context,
                                  heads<S> y,
                                  heads<const S> x,
                                  weight_view<const Weight, cpu> w) {
    const index_t N = y.extent(2), K = x.extent(2);
    each_head<Weight>(context, y, K, 0, [&](index_t h, Weight*, product<S, Weight, S> p) {
      p.a = {&x(0, h, 0), x.stride(0), 1};
      p.b = w.data + weight_offset<Weight>(h * N, 0, w.outputs, K);
      return p;
    });
  }

  template <factor S, scalar Weight>
  static void head_linear_backward_input(cpu_context& context,
                                         heads<S> dx,
                                         heads<const S> dy,
                                         weight_view<const Weight, cpu> w) {
    const index_t N = dy.extent(2), K = dx.extent(2);
    const index_t transposed = weight_storage<Weight>(K, N);
    each_head<Weight>(
        context, dx, N, transposed, [&](index_t h, Weight* own, product<S, Weight, S> p) {
          const Weight* const part = w.data + weight_offset<Weight>(h * N, 0, w.outputs, K);
          // In the order in which the part lies in memory.
          for (index_t n0 = 0; n0 < N; n0 += panel_width<Weight>) {
            for (index_t panel = 0; panel < p.panels(); ++panel) {
              transpose_part(own + panel * p.b_panel, part, N, K, panel, n0);
            }
          }
          p.a = {&dy(0, h, 0), dy.stride(0), 1};
          p.b = own;
          return p;
        });
  }

  template <class Y, class X, class W>
  requires some_widened<Y, X>
  static void head_linear_forward(cpu_context& context, Y y, X x, W w) {
    run_widened(
        context,
        [&](auto wide_y, auto wide_x) { head_linear_forward(context, wide_y, wide_x, w); },
        y,
        x);
  }

  template <class Y, class X, class W>
  requires some_widened<Y, X>
  static void head_linear_backward_input(cpu_context& context, Y dx, X dy, W w) {
    run_widened(
        context,
        [&](auto wide_dx, auto wide_dy) {
          head_linear_backward_input(context, wide_dx, wide_dy, w);
        },
        dx,
        dy);
  }

  /// The most bytes of workspace that these operations need for `rows` rows and `heads_count` heads
  /// with parts of this size.
  template <scalar S>
  static constexpr index_t head_linear_workspace(
      index_t rows, index_t heads_count, index_t outputs, index_t inputs, index_t threads) {
    return arena_bytes(threads * weight_storage<S>(inputs, outputs), sizeof(S)) +
           product_workspace<factor_type<S>>((std::max)(outputs, inputs), threads) +
           widened_bytes<S>(rows * heads_count * inputs) +
           widened_bytes<S>(rows * heads_count * outputs);
  }

 private:
  /// y of each head h = the product that make(h, scratch of `count` elements, product) completes.
  template <scalar Weight, factor S, class Make>
  static void each_head(
      cpu_context& context, heads<S> y, index_t inner_size, index_t count, const Make& make) {
    const index_t H = y.extent(1);
    if (y.empty()) {
      return;
    }
    const arena::scope scope(context.workspace());
    const auto threads = static_cast<index_t>(context.threads());
    S* const packed = context.workspace().template take<S>(threads * product_scratch<S>);
    const index_t sums_count = product_sums<S, S>(inner_size);
    auto* const sums = context.workspace().template take<accumulate_t<S>>(threads * sums_count);
    Weight* const own = context.workspace().template take<Weight>(threads * count);
    const auto run = [&](index_t h, int thread) {
      product<S, Weight, S> empty;
      empty.rows = y.extent(0);
      empty.columns = y.extent(2);
      empty.inner_size = inner_size;
      empty.b_panel = inner_size * panel_width<S>;
      empty.c = panels_of<S>::row_major(&y(0, h, 0), y.stride(0));
      const auto p = make(h, own + thread * count, empty);
      multiply_block(p,
                     0,
                     p.rows,
                     index_t{0},
                     p.panels(),
                     packed + thread * product_scratch<S>,
                     sums + thread * sums_count);
    };
    if (y.count() * inner_size <= serial_work) {
      for (index_t h = 0; h < H; ++h) {
        run(h, 0);
      }
    } else {
      context.parallel(H, run);
    }
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
