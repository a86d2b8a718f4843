// AdamW and the norm of all gradients on the CPU. Contracts: ops/optimizer.hpp.
#pragma once

#include <algorithm>
#include <cmath>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/optimizer.hpp"

namespace mtp::cpu_detail {

struct cpu_optimizer_ops {
  /// Elements of one partial sum: fixed, so that the order of additions is.
  static constexpr index_t sum_chunk = 1 << 14;

  template <real S>
  static double sum_of_squares(cpu_context& context, vector_view<const S, cpu> x) {
    const index_t chunks = ceil_div(x.extent(0), sum_chunk);
    const arena::scope scope(context.workspace());
    double* partial = context.workspace().template take<double>(chunks);
    context.parallel(chunks, [&](index_t chunk, int) {
      constexpr index_t width = 16;
      double sums[width] = {};
      const index_t begin = chunk * sum_chunk;
      const index_t end = std::min(begin + sum_chunk, x.extent(0));
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
    return total;
  }

  template <real S>
  static void adamw_update(cpu_context& context,
                           vector_view<S, cpu> value,
                           vector_view<S, cpu> first,
                           vector_view<S, cpu> second,
                           vector_view<const S, cpu> gradient,
                           const adamw_coefficients& k) {
    const auto beta1 = broadcast<S>(static_cast<S>(k.beta1));
    const auto rest1 = broadcast<S>(static_cast<S>(1 - k.beta1));
    const auto beta2 = broadcast<S>(static_cast<S>(k.beta2));
    const auto rest2 = broadcast<S>(static_cast<S>(1 - k.beta2));
    const auto scale = broadcast<S>(static_cast<S>(k.gradient_scale));
    const auto step = broadcast<S>(static_cast<S>(k.learning_rate / k.correction1));
    const auto root = broadcast<S>(static_cast<S>(1 / std::sqrt(k.correction2)));
    const auto epsilon = broadcast<S>(static_cast<S>(k.epsilon));
    const auto keep = broadcast<S>(static_cast<S>(1 - k.learning_rate * k.weight_decay));
    context.parallel_ranges(value.extent(0), 1 << 14, [&](index_t begin, index_t end, int) {
      S* const values = value.data() + begin;
      S* const firsts = first.data() + begin;
      S* const seconds = second.data() + begin;
      const S* const gradients = gradient.data() + begin;
      for_each_packet<S>(end - begin, [&](auto read, auto write) {
        const auto g = multiply(scale, read(gradients));
        const auto m = multiply_add(rest1, g, multiply(beta1, read(firsts)));
        const auto v = multiply_add(rest2, multiply(g, g), multiply(beta2, read(seconds)));
        const auto denominator = multiply_add(square_root(v), root, epsilon);
        write(firsts, m);
        write(seconds, v);
        write(values,
              subtract(multiply(keep, read(values)), divide(multiply(step, m), denominator)));
      });
    });
  }
};

}  // namespace mtp::cpu_detail
