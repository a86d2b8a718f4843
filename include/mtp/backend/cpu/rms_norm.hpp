// RMSNorm on the CPU. Contracts: ops/rms_norm.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/backend/cpu/widened.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_rms_norm_ops {
  template <class S>
  using heads = view<S, dims<3>, cpu>;

  template <real S>
  static void rms_norm_forward(cpu_context& context,
                               heads<S> y,
                               matrix_view<S, cpu> inv_rms,
                               heads<const S> x,
                               vector_view<const S, cpu> weight,
                               double epsilon) {
    const index_t H = x.extent(1), C = x.extent(2);
    context.parallel_ranges(x.extent(0) * H, task_rows(C), [&](index_t begin, index_t end, int) {
      for (index_t row = begin; row < end; ++row) {
        const S* from = row_of(x, row, H);
        S* to = row_of(y, row, H);
        auto squares = broadcast<S>(S{0});
        for_each_packet<S>(C, [&](auto read, auto) {
          const auto value = read(from);
          squares = multiply_add(value, value, squares);
        });
        const S mean = sum_of_lanes<S>(squares) / static_cast<S>(C);
        S inverse = S{1} / std::sqrt(mean + static_cast<S>(epsilon));
        if (std::isinf(mean)) {
          inverse = inverse_of_large(from, C);
        }
        inv_rms(row / H, row % H) = inverse;
        const auto scale = broadcast<S>(inverse);
        for_each_packet<S>(C, [&](auto read, auto write) {
          write(to, multiply(multiply(read(from), scale), read(weight.data())));
        });
      }
    });
  }

  template <real S>
  static void rms_norm_backward(cpu_context& context,
                                heads<S> dx,
                                vector_view<S, cpu> dweight,
                                heads<const S> dy,
                                heads<const S> x,
                                matrix_view<const S, cpu> inv_rms,
                                vector_view<const S, cpu> weight,
                                heads<const S> residual) {
    if (dweight.data() != nullptr) {
      backward_weight(context, dweight, dy, x, inv_rms);  // first: dx may be dy
    }
    const index_t H = x.extent(1), C = x.extent(2);
    context.parallel_ranges(x.extent(0) * H, task_rows(C), [&](index_t begin, index_t end, int) {
      for (index_t row = begin; row < end; ++row) {
        const S* value = row_of(x, row, H);
        const S* gradient = row_of(dy, row, H);
        S* to = row_of(dx, row, H);
        const S inverse = inv_rms(row / H, row % H);
        auto products = broadcast<S>(S{0});
        for_each_packet<S>(C, [&](auto read, auto) {
          products =
              multiply_add(multiply(read(gradient), read(weight.data())), read(value), products);
        });
        const S mean = sum_of_lanes<S>(products) / static_cast<S>(C);
        const S* add_to = residual.data() != nullptr ? row_of(residual, row, H) : nullptr;
        if (inverse > 0 && inverse < smallest_square_root<S>) {
          backward_of_large(to, gradient, value, weight.data(), add_to, inverse, C);
          continue;
        }
        const auto scale = broadcast<S>(inverse);
        const auto pull = broadcast<S>(-mean * inverse * inverse * inverse);
        for_each_packet<S>(C, [&](auto read, auto write) {
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

  template <class... Views>
  requires some_widened<Views...>
  static void rms_norm_forward(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { rms_norm_forward(context, each...); }, views...);
  }

  template <class... Views>
  requires some_widened<Views...>
  static void rms_norm_backward(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { rms_norm_backward(context, each...); }, views...);
  }

  /// The most bytes of workspace that row-wise operations (norms, rotations, activations) need for
  /// `rows` rows of at most `columns` elements.
  template <scalar S>
  static constexpr index_t row_workspace(index_t rows, index_t columns, index_t) {
    return 4 * widened_bytes<S>(rows * columns) + widened_bytes<S>(columns);
  }

 private:
  /// Numbers below this have squares that are not normal.
  template <real S>
  static constexpr S smallest_square_root = std::same_as<S, float> ? S(0x1p-63) : S(0x1p-511);

  /// 1 / rms of a row whose sum of squares overflows S, computed with a scale that is a power of
  /// two; epsilon is negligible then. 0 for a row with an infinity.
  template <real S>
  [[gnu::noinline]] static S inverse_of_large(const S* row, index_t C) {
    constexpr S factor = std::same_as<S, float> ? S(0x1p-96) : S(0x1p-768);
    S squares = 0;
    for (index_t c = 0; c < C; ++c) {
      const S value = row[c] * factor;
      squares += value * value;
    }
    return factor / std::sqrt(squares / static_cast<S>(C));
  }

  /// dx of a row whose 1 / rms has no square in S: with n = x / rms, which is small,
  /// dx = (dy weight - n mean(dy weight n)) / rms + residual.
  template <real S>
  [[gnu::noinline]] static void backward_of_large(
      S* dx, const S* dy, const S* x, const S* weight, const S* residual, S inverse, index_t C) {
    S products = 0;
    for (index_t c = 0; c < C; ++c) {
      products += dy[c] * weight[c] * (x[c] * inverse);
    }
    const S mean = products / static_cast<S>(C);
    for (index_t c = 0; c < C; ++c) {
      const S result = (dy[c] * weight[c] - x[c] * inverse * mean) * inverse;
      dx[c] = residual != nullptr ? residual[c] + result : result;
    }
  }

  template <class Element>
  static Element* row_of(const view<Element, dims<3>, cpu>& rows, index_t row, index_t H) {
    return rows.data() + row / H * rows.stride(0) + row % H * rows.stride(1);
  }

  // Threads divide the columns, so each column is one sum over rows in order.
  template <real S>
  static void backward_weight(cpu_context& context,
                              vector_view<S, cpu> dweight,
                              heads<const S> dy,
                              heads<const S> x,
                              matrix_view<const S, cpu> inv_rms) {
    constexpr index_t columns = 64;
    context.parallel_ranges(x.extent(2), columns, [&](index_t begin, index_t end, int) {
      S sum[columns];
      std::copy(dweight.data() + begin, dweight.data() + end, sum);
      for (index_t n = 0; n < x.extent(0); ++n) {
        const S* gradient = dy.data() + n * dy.stride(0) + begin;
        const S* value = x.data() + n * x.stride(0) + begin;
        for (index_t h = 0; h < x.extent(1); ++h) {
          const S inverse = inv_rms(n, h);
          for (index_t c = 0; c < end - begin; ++c) {
            sum[c] += gradient[c] * (value[c] * inverse);
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
