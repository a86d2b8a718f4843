// Gated activations on the CPU. Contracts: ops/swiglu.hpp.
#pragma once

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_swiglu_ops {
  template <scalar S>
  static void swiglu_forward(cpu_context& context,
                             matrix_view<S, cpu> y,
                             matrix_view<const S, cpu> gate_up) {
    const index_t F = y.extent(1);
    for_rows_of(context, y.extent(0), F, [&](index_t n) {
      const S* gate = gate_up.data() + n * gate_up.stride(0);
      const S* up = gate + F;
      S* to = y.data() + n * y.stride(0);
      for_each_packet<accumulate_t<S>>(F, [&](auto read, auto write) {
        const auto g = read(gate);
        write(to, multiply(multiply(g, sigmoid<accumulate_t<S>>(g)), read(up)));
      });
    });
  }

  template <scalar S>
  static void swiglu_backward(cpu_context& context,
                              matrix_view<S, cpu> d_gate_up,
                              matrix_view<const S, cpu> dy,
                              matrix_view<const S, cpu> gate_up) {
    const index_t F = dy.extent(1);
    for_rows_of(context, dy.extent(0), F, [&](index_t n) {
      const S* gate = gate_up.data() + n * gate_up.stride(0);
      const S* up = gate + F;
      const S* gradient = dy.data() + n * dy.stride(0);
      S* d_gate = d_gate_up.data() + n * d_gate_up.stride(0);
      S* d_up = d_gate + F;
      for_each_packet<accumulate_t<S>>(F, [&](auto read, auto write) {
        const auto g = read(gate);
        const auto s = sigmoid<accumulate_t<S>>(g);
        const auto d = read(gradient);
        const auto u = read(up);
        write(d_up, multiply(d, multiply(g, s)));
        write(d_gate, multiply(multiply(d, u), silu_slope<accumulate_t<S>>(g, s)));
      });
    });
  }

  template <scalar S>
  static void silu_residual_forward(cpu_context& context,
                                    matrix_view<S, cpu> y,
                                    matrix_view<const S, cpu> x,
                                    matrix_view<const S, cpu> u) {
    const index_t C = y.extent(1);
    for_rows_of(context, y.extent(0), C, [&](index_t n) {
      for_each_packet<accumulate_t<S>>(C, [&](auto read, auto write) {
        const auto value = read(u.data() + n * u.stride(0));
        write(y.data() + n * y.stride(0),
              add(read(x.data() + n * x.stride(0)),
                  multiply(value, sigmoid<accumulate_t<S>>(value))));
      });
    });
  }

  template <scalar S>
  static void silu_residual_backward(cpu_context& context,
                                     matrix_view<S, cpu> du,
                                     matrix_view<const S, cpu> dy,
                                     matrix_view<const S, cpu> u) {
    const index_t C = du.extent(1);
    for_rows_of(context, du.extent(0), C, [&](index_t n) {
      for_each_packet<accumulate_t<S>>(C, [&](auto read, auto write) {
        const auto value = read(u.data() + n * u.stride(0));
        write(du.data() + n * du.stride(0),
              multiply(read(dy.data() + n * dy.stride(0)),
                       silu_slope<accumulate_t<S>>(value, sigmoid<accumulate_t<S>>(value))));
      });
    });
  }

 private:
  template <class Body>
  static void for_rows_of(cpu_context& context, index_t rows, index_t width, Body&& body) {
    context.parallel_ranges(rows, task_rows(width), [&](index_t begin, index_t end, int) {
      for (index_t n = begin; n < end; ++n) {
        body(n);
      }
    });
  }

  /// 1 / (1 + exp(-g))
  template <real S>
  static packet<S> sigmoid(const packet<S>& g) {
    const auto one = broadcast<S>(S{1});
    return divide(one, add(one, exponential<S>(subtract(broadcast<S>(S{0}), g))));
  }

  /// s (1 + g (1 - s))
  template <real S>
  static packet<S> silu_slope(const packet<S>& g, const packet<S>& s) {
    const auto one = broadcast<S>(S{1});
    return multiply(s, multiply_add(g, subtract(one, s), one));
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
