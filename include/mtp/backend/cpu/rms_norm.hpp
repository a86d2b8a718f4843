// RMSNorm on the CPU. Contracts: ops/rms_norm.hpp.
#pragma once

#include <algorithm>
#include <cmath>

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
        const S inverse = S{1} / std::sqrt(mean + static_cast<S>(epsilon));
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
        const auto scale = broadcast<S>(inverse);
        const auto pull = broadcast<S>(-mean * inverse * inverse * inverse);
        const S* add_to = residual.data() != nullptr ? row_of(residual, row, H) : nullptr;
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
  requires some_bf16<Views...>
  static void rms_norm_forward(cpu_context& context, Views... views) {
    in_float(
        context, [&](auto... each) { rms_norm_forward(context, each...); }, views...);
  }

  template <class... Views>
  requires some_bf16<Views...>
  static void rms_norm_backward(cpu_context& context, Views... views) {
    in_float(
        context, [&](auto... each) { rms_norm_backward(context, each...); }, views...);
  }

  /// Bytes of workspace that operations row by row (norms, rotations, activations) want for `rows`
  /// rows of at most `columns` elements.
  template <scalar S>
  static constexpr index_t row_workspace(index_t rows, index_t columns, index_t) {
    return 4 * widened_bytes<S>(rows * columns) + widened_bytes<S>(columns);
  }

 private:
  template <class Element>
  static Element* row_of(const view<Element, dims<3>, cpu>& rows, index_t row, index_t H) {
    return rows.data() + row / H * rows.stride(0) + row % H * rows.stride(1);
  }

  // Columns are shared among threads, so each column is one sum over rows in order.
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
