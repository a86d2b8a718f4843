// Rotary position embedding on the CPU. Contracts: ops/rope.hpp.
#pragma once

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_rope_ops {
  template <scalar S>
  static void rope_forward(cpu_context& context,
                           view<S, dims<3>, cpu> x,
                           matrix_view<const accumulate_t<S>, cpu> table,
                           index_t length,
                           index_t first) {
    rotate(context, x, table, consecutive{length, first}, accumulate_t<S>{1});
  }

  template <scalar S>
  static void rope_forward(cpu_context& context,
                           view<S, dims<3>, cpu> x,
                           matrix_view<const accumulate_t<S>, cpu> table,
                           vector_view<const index_t, cpu> positions) {
    rotate(context, x, table, positions, accumulate_t<S>{1});
  }

  template <scalar S>
  static void rope_backward(cpu_context& context,
                            view<S, dims<3>, cpu> dx,
                            matrix_view<const accumulate_t<S>, cpu> table,
                            index_t length,
                            index_t first) {
    rotate(context, dx, table, consecutive{length, first}, accumulate_t<S>{-1});
  }

 private:
  struct consecutive {
    index_t length, first;

    index_t operator()(index_t n) const { return first + n % length; }
  };

  template <scalar S, class Position>
  static void rotate(cpu_context& context,
                     view<S, dims<3>, cpu> x,
                     matrix_view<const accumulate_t<S>, cpu> table,
                     const Position& position,
                     accumulate_t<S> direction) {
    const index_t H = x.extent(1), E = x.extent(2);
    using A = accumulate_t<S>;
    const auto sign = broadcast<A>(direction);
    context.parallel_ranges(x.extent(0), task_rows(H * E), [&](index_t begin, index_t end, int) {
      for (index_t n = begin; n < end; ++n) {
        const A* cosine = table.data() + position(n) * table.stride(0);
        const A* sine = cosine + E / 2;
        for (index_t h = 0; h < H; ++h) {
          S* low = x.data() + n * x.stride(0) + h * x.stride(1);
          S* high = low + E / 2;
          for_each_packet<A>(E / 2, [&](auto read, auto write) {
            const auto a = read(low);
            const auto b = read(high);
            const auto c = read(cosine);
            const auto s = multiply(sign, read(sine));
            write(low, subtract(multiply(a, c), multiply(b, s)));
            write(high, add(multiply(b, c), multiply(a, s)));
          });
        }
      }
    });
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
