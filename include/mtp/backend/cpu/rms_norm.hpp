// RMSNorm on the CPU. Contracts: ops/rms_norm.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/elementwise.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_rms_norm_ops {
  template <class S>
  using heads = view<S, dims<3>, cpu>;

  template <scalar S>
  static void rms_norm_forward(cpu_context& context,
                               heads<S> y,
                               matrix_view<accumulate_t<S>, cpu> inv_rms,
                               heads<const S> x,
                               vector_view<const S, cpu> weight,
                               double epsilon) {
    using A = accumulate_t<S>;
    const index_t H = x.extent(1), C = x.extent(2);
    context.parallel_ranges(x.extent(0) * H, task_rows(C), [&](index_t begin, index_t end, int) {
      for (index_t row = begin; row < end; ++row) {
        const S* from = row_of(x, row, H);
        S* to = row_of(y, row, H);
        auto squares = broadcast<A>(A{0});
        for_each_packet<A>(C, [&](auto read, auto) {
          const auto value = read(from);
          squares = multiply_add(value, value, squares);
        });
        const A mean = sum_of_lanes<A>(squares) / static_cast<A>(C);
        A inverse = A{1} / std::sqrt(mean + static_cast<A>(epsilon));
        if (std::isinf(mean)) {
          inverse = inverse_of_large(from, C);
        }
        inv_rms(row / H, row % H) = inverse;
        const auto scale = broadcast<A>(inverse);
        for_each_packet<A>(C, [&](auto read, auto write) {
          write(to, multiply(multiply(read(from), scale), read(weight.data())));
        });
      }
    });
  }

  template <scalar S>
  static void rms_norm_backward(cpu_context& context,
                                heads<S> dx,
                                vector_view<accumulate_t<S>, cpu> dweight,
                                heads<const S> dy,
                                heads<const S> x,
                                matrix_view<const accumulate_t<S>, cpu> inv_rms,
                                vector_view<const S, cpu> weight,
                                heads<const S> residual) {
    if (dweight.data() != nullptr) {
      backward_weight(context, dweight, dy, x, inv_rms);  // first: dx may be dy
    }
    using A = accumulate_t<S>;
    const index_t H = x.extent(1), C = x.extent(2);
    context.parallel_ranges(x.extent(0) * H, task_rows(C), [&](index_t begin, index_t end, int) {
      for (index_t row = begin; row < end; ++row) {
        const S* value = row_of(x, row, H);
        const S* gradient = row_of(dy, row, H);
        S* to = row_of(dx, row, H);
        const A inverse = inv_rms(row / H, row % H);
        auto products = broadcast<A>(A{0});
        for_each_packet<A>(C, [&](auto read, auto) {
          products =
              multiply_add(multiply(read(gradient), read(weight.data())), read(value), products);
        });
        const A mean = sum_of_lanes<A>(products) / static_cast<A>(C);
        const S* add_to = residual.data() != nullptr ? row_of(residual, row, H) : nullptr;
        if (inverse > 0 && inverse < smallest_square_root<A>) {
          backward_of_large(to, gradient, value, weight.data(), add_to, inverse, C);
          continue;
        }
        const auto scale = broadcast<A>(inverse);
        const auto pull = broadcast<A>(-mean * inverse * inverse * inverse);
        for_each_packet<A>(C, [&](auto read, auto write) {
          const auto direct = multiply(multiply(read(gradient), read(weight.data())), scale);
          auto result = multiply_add(read(value), pull, direct);
          if (add_to != nullptr) {
            result = add(read(add_to), result);
          }
          write(to, result);
        });
      }
    });
  }

  /// The most bytes of workspace that row-wise operations (norms, rotations, activations) need.
  template <scalar S>
  static constexpr index_t row_workspace(index_t, index_t, index_t) {
    return 0;
  }

 private:
  /// Numbers below this have squares that are not normal.
  template <real S>
  static constexpr S smallest_square_root = std::same_as<S, float> ? S(0x1p-63) : S(0x1p-511);

  /// 1 / rms of a row whose sum of squares overflows S, computed with a scale that is a power of
  /// two; epsilon is negligible then. 0 for a row with an infinity.
  template <scalar S, real A = accumulate_t<S>>
  [[gnu::noinline]] static A inverse_of_large(const S* row, index_t C) {
    constexpr A factor = std::same_as<A, float> ? A(0x1p-96) : A(0x1p-768);
    A squares = 0;
    for (index_t c = 0; c < C; ++c) {
      const A value = widen(row[c]) * factor;
      squares += value * value;
    }
    return factor / std::sqrt(squares / static_cast<A>(C));
  }

  /// dx of a row whose 1 / rms has no square in S: with n = x / rms, which is small,
  /// dx = (dy weight - n mean(dy weight n)) / rms + residual.
  template <scalar S, real A = accumulate_t<S>>
  [[gnu::noinline]] static void backward_of_large(
      S* dx, const S* dy, const S* x, const S* weight, const S* residual, A inverse, index_t C) {
    A products = 0;
    for (index_t c = 0; c < C; ++c) {
      products += widen(dy[c]) * widen(weight[c]) * (widen(x[c]) * inverse);
    }
    const A mean = products / static_cast<A>(C);
    for (index_t c = 0; c < C; ++c) {
      const A result = (widen(dy[c]) * widen(weight[c]) - widen(x[c]) * inverse * mean) * inverse;
      dx[c] = narrow<S>(residual != nullptr ? widen(residual[c]) + result : result);
    }
  }

  template <class Element>
  static Element* row_of(const view<Element, dims<3>, cpu>& rows, index_t row, index_t H) {
    return rows.data() + row / H * rows.stride(0) + row % H * rows.stride(1);
  }

  // Threads divide the columns, so each column is one sum over rows in order.
  template <scalar S>
  static void backward_weight(cpu_context& context,
                              vector_view<accumulate_t<S>, cpu> dweight,
                              heads<const S> dy,
                              heads<const S> x,
                              matrix_view<const accumulate_t<S>, cpu> inv_rms) {
    constexpr index_t columns = 64;
    context.parallel_ranges(x.extent(2), columns, [&](index_t begin, index_t end, int) {
      accumulate_t<S> sum[columns];
      std::copy(dweight.data() + begin, dweight.data() + end, sum);
      for (index_t n = 0; n < x.extent(0); ++n) {
        const S* gradient = dy.data() + n * dy.stride(0) + begin;
        const S* value = x.data() + n * x.stride(0) + begin;
        for (index_t h = 0; h < x.extent(1); ++h) {
          const accumulate_t<S> inverse = inv_rms(n, h);
          for (index_t c = 0; c < end - begin; ++c) {
            sum[c] += widen(gradient[c]) * (widen(value[c]) * inverse);
          }
          gradient += dy.stride(1);
          value += x.stride(1);
        }
      }
      std::copy_n(sum, end - begin, dweight.data() + begin);
    });
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
