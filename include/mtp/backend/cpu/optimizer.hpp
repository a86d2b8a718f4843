// AdamW and the norm of all gradients on the CPU. Contracts: ops/optimizer.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/elementwise.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/optimizer.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_optimizer_ops {
  /// Elements of one partial sum; fixed, so that the order of additions is fixed.
  static constexpr index_t sum_chunk = sum_of_squares_piece;

  template <scalar S>
  static void sum_of_squares(cpu_context& context,
                             vector_view<double, cpu> result,
                             vector_view<const S, cpu> x) {
    const index_t chunks = ceil_div(x.extent(0), sum_chunk);
    const arena::scope scope(context.workspace());
    double* partial = context.workspace().template take<double>(chunks);
    context.parallel(chunks, [&](index_t chunk, int) {
      constexpr index_t width = 16;
      double sums[width] = {};
      const index_t begin = chunk * sum_chunk;
      const index_t end = (std::min)(begin + sum_chunk, x.extent(0));
      index_t i = begin;
      for (; i + width <= end; i += width) {
        for (index_t l = 0; l < width; ++l) {
          const auto value = static_cast<double>(x.data()[i + l]);
          sums[l] += value * value;
        }
      }
      for (; i < end; ++i) {
        const auto value = static_cast<double>(x.data()[i]);
        sums[(i - begin) & (width - 1)] += value * value;
      }
      double sum = 0;
      for (const double s : sums) {
        sum += s;
      }
      partial[chunk] = sum;
    });
    double total = 0;
    for (index_t chunk = 0; chunk < chunks; ++chunk) {
      total += partial[chunk];
    }
    result(0) = total;
  }

  /// Bytes of workspace that sum_of_squares needs for `count` elements.
  static constexpr index_t sum_of_squares_workspace(index_t count) {
    return arena_bytes(ceil_div(count, sum_chunk), sizeof(double));
  }

  template <scalar S>
  static void adamw_update(cpu_context& context,
                           vector_view<S, cpu> value,
                           vector_view<accumulate_t<S>, cpu> master,
                           vector_view<accumulate_t<S>, cpu> first,
                           vector_view<accumulate_t<S>, cpu> second,
                           vector_view<const accumulate_t<S>, cpu> gradient,
                           vector_view<const adamw_range, cpu> ranges,
                           const adamw_coefficients& k) {
    using A = accumulate_t<S>;
    const auto beta1 = broadcast<A>(static_cast<A>(k.beta1));
    const auto rest1 = broadcast<A>(static_cast<A>(1 - k.beta1));
    const auto beta2 = broadcast<A>(static_cast<A>(k.beta2));
    const auto rest2 = broadcast<A>(static_cast<A>(1 - k.beta2));
    const auto scale = broadcast<A>(static_cast<A>(k.gradient_scale));
    const auto step = broadcast<A>(static_cast<A>(k.learning_rate / k.correction1));
    const auto root = broadcast<A>(static_cast<A>(1 / std::sqrt(k.correction2)));
    const auto epsilon = broadcast<A>(static_cast<A>(k.epsilon));
    const auto largest = broadcast<A>((std::numeric_limits<A>::max)());
    const auto nothing = broadcast<A>(A{0});
    const auto decayed = static_cast<A>(1 - k.learning_rate * k.weight_decay);
    context.parallel(ranges.extent(0), [&](index_t r, int) {
      const adamw_range range = ranges(r);
      const auto keep = broadcast<A>(range.decays != 0 ? decayed : A{1});
      A* const masters = master.data() + range.begin;
      A* const firsts = first.data() + range.begin;
      A* const seconds = second.data() + range.begin;
      const A* const gradients = gradient.data() + range.begin;
      if constexpr (!std::same_as<S, A>) {
        for (index_t i = 0; i < range.count; ++i) {
          const S current = value.data()[range.begin + i];
          masters[i] = narrow<S>(masters[i]).bits() == current.bits() ? masters[i] : widen(current);
        }
      }
      for_each_packet<A>(range.count, [&](auto read, auto write) {
        const auto g = multiply(scale, read(gradients));
        const auto m = multiply_add(rest1, g, multiply(beta1, read(firsts)));
        const auto v = multiply_add(rest2, multiply(g, g), multiply(beta2, read(seconds)));
        const auto denominator = multiply_add(square_root<A>(v), root, epsilon);
        const auto quotient = divide(multiply(step, m), denominator);
        // A moment that overflowed moves nothing; its product with the step could be infinite.
        const auto delta = select_less(largest, denominator, nothing, quotient);
        write(firsts, m);
        write(seconds, v);
        write(masters, subtract(multiply(keep, read(masters)), delta));
      });
      if constexpr (!std::same_as<S, A>) {
        for (index_t i = 0; i < range.count; ++i) {
          value.data()[range.begin + i] = narrow<S>(masters[i]);
        }
      }
    });
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
