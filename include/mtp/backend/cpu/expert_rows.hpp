// Rows on their way to experts on the CPU. Contracts: ops/expert_rows.hpp.
#pragma once

#include <algorithm>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_expert_rows_ops {
  // One thread: a pair takes less time than a row of the products behind it by some thousand times.
  static void group_rows(cpu_context&,
                         vector_view<index_t, cpu> offsets,
                         vector_view<index_t, cpu> pairs,
                         matrix_view<index_t, cpu> rows,
                         matrix_view<const index_t, cpu> experts) {
    const index_t E = offsets.extent(0) - 1, k = experts.extent(1);
    std::fill_n(offsets.data(), E + 1, index_t{0});
    for (index_t n = 0; n < experts.extent(0); ++n) {
      for (index_t j = 0; j < k; ++j) {
        ++offsets(experts(n, j) + 1);
      }
    }
    for (index_t e = 0; e < E; ++e) {
      offsets(e + 1) += offsets(e);
    }
    for (index_t n = 0; n < experts.extent(0); ++n) {
      for (index_t j = 0; j < k; ++j) {
        const index_t row = offsets(experts(n, j))++;  // until all are placed, the next free row
        rows(n, j) = row;
        pairs(row) = n * k + j;
      }
    }
    for (index_t e = E; e > 0; --e) {
      offsets(e) = offsets(e - 1);
    }
    offsets(0) = 0;
  }

  template <scalar S>
  static void add_group_sizes(cpu_context&,
                              vector_view<S, cpu> counts,
                              vector_view<const index_t, cpu> offsets) {
    for (index_t e = 0; e < counts.extent(0); ++e) {
      counts(e) =
          narrow<S>(widen(counts(e)) + static_cast<accumulate_t<S>>(offsets(e + 1) - offsets(e)));
    }
  }

  template <scalar S>
  static void gather_rows(cpu_context& context,
                          matrix_view<S, cpu> y,
                          matrix_view<const S, cpu> x,
                          vector_view<const index_t, cpu> pairs) {
    const index_t C = y.extent(1), k = x.extent(0) > 0 ? y.extent(0) / x.extent(0) : 1;
    context.parallel_ranges(y.extent(0), task_rows(C), [&](index_t begin, index_t end, int) {
      for (index_t r = begin; r < end; ++r) {
        std::copy_n(x.data() + pairs(r) / k * x.stride(0), C, y.data() + r * y.stride(0));
      }
    });
  }

  template <scalar S>
  static void scatter_rows(cpu_context& context,
                           matrix_view<S, cpu> y,
                           matrix_view<const S, cpu> residual,
                           matrix_view<const S, cpu> x,
                           matrix_view<const index_t, cpu> rows,
                           matrix_view<const accumulate_t<S>, cpu> weights) {
    using A = accumulate_t<S>;
    const index_t C = y.extent(1), k = rows.extent(1);
    context.parallel_ranges(
        y.extent(0), task_rows(C * (k + 1)), [&](index_t begin, index_t end, int) {
          for (index_t n = begin; n < end; ++n) {
            for_each_packet<A>(C, [&](auto read, auto write) {
              auto sum = read(residual.data() + n * residual.stride(0));
              for (index_t j = 0; j < k; ++j) {
                const A weight = weights.data() != nullptr ? weights(n, j) : A{1};
                sum = multiply_add(
                    broadcast<A>(weight), read(x.data() + rows(n, j) * x.stride(0)), sum);
              }
              write(y.data() + n * y.stride(0), sum);
            });
          }
        });
  }

  template <scalar S>
  static void scatter_rows_backward(cpu_context& context,
                                    matrix_view<S, cpu> dx,
                                    matrix_view<accumulate_t<S>, cpu> dweights,
                                    matrix_view<const S, cpu> dy,
                                    matrix_view<const S, cpu> x,
                                    matrix_view<const index_t, cpu> rows,
                                    matrix_view<const accumulate_t<S>, cpu> weights) {
    using A = accumulate_t<S>;
    const index_t C = dy.extent(1), k = rows.extent(1);
    context.parallel_ranges(
        dy.extent(0), task_rows(2 * C * k), [&](index_t begin, index_t end, int) {
          for (index_t n = begin; n < end; ++n) {
            const S* const gradient = dy.data() + n * dy.stride(0);
            for (index_t j = 0; j < k; ++j) {
              const auto weight = broadcast<A>(weights(n, j));
              auto products = broadcast<A>(A{0});
              for_each_packet<A>(C, [&](auto read, auto write) {
                const auto d = read(gradient);
                products = multiply_add(d, read(x.data() + rows(n, j) * x.stride(0)), products);
                write(dx.data() + rows(n, j) * dx.stride(0), multiply(weight, d));
              });
              dweights(n, j) = sum_of_lanes<A>(products);
            }
          }
        });
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
