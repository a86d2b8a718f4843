// Softmax on the CPU: one row at a time through scratch of the accumulator type.
#pragma once

#include <algorithm>
#include <limits>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/elementwise.hpp"
#include "mtp/backend/cpu/reduce.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/core/arena.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// The sum of a row in the order of the reduction `sum`.
template <real Real>
Real sum_row(const Real* x, index_t count) {
  return combine_pairs<sum_reduction<Real>>(0, ceil_div(count, reduce_block), [&](index_t block) {
    const index_t first = block * reduce_block;
    return sum_block(x + first, (std::min)(reduce_block, count - first));
  });
}

/// row[c] becomes exp(row[c] - maximum) / sum. A NaN that the maximum skipped returns through the
/// sum.
template <real Real>
void softmax_row(Real* row, index_t count) {
  Real largest = -std::numeric_limits<Real>::infinity();
  for (index_t c = 0; c < count; ++c) {
    largest = row[c] > largest ? row[c] : largest;
  }
  for_each_packet<Real>(count, [&](auto load, auto store) {
    store(row, exponential<Real>(subtract(load(row), broadcast<Real>(largest))));
  });
  // exponential() returns a tiny positive number where the true value goes to zero.
  constexpr Real smallest = 2 * (std::numeric_limits<Real>::min)();
  for (index_t c = 0; c < count; ++c) {
    row[c] = row[c] < smallest ? Real{0} : row[c];
  }
  const Real sum = sum_row(row, count);
  for (index_t c = 0; c < count; ++c) {
    row[c] /= sum;
  }
}

/// dy[c] becomes y[c] (dy[c] - sum of dy y). `products` has room for a row.
template <real Real>
void softmax_row_gradient(Real* dy, const Real* y, Real* products, index_t count) {
  for (index_t c = 0; c < count; ++c) {
    products[c] = dy[c] * y[c];
  }
  const Real sum = sum_row(products, count);
  for (index_t c = 0; c < count; ++c) {
    dy[c] = y[c] * (dy[c] - sum);
  }
}

/// Calls body(row, buffers) for each row; `buffers` rows of scratch, one after the other.
template <class View, class Body>
void for_each_row(cpu_context& context, const View& shape, index_t buffers, const Body& body) {
  using real_type = accumulate_t<typename View::value_type>;
  if (shape.empty()) {
    return;
  }
  const index_t columns = shape.extent(View::rank - 1);
  const index_t grain = (std::max<index_t>)(1, elements_per_task / columns);
  const index_t piece = round_up(buffers * columns, arena_alignment);  // no shared cache lines
  const arena::scope scope(context.workspace());
  auto* scratch = context.workspace().template take<real_type>(context.threads() * piece);
  context.parallel_ranges(
      shape.count() / columns, grain, [&](index_t begin, index_t end, int thread) {
        for (index_t row = begin; row < end; ++row) {
          body(row, scratch + thread * piece);
        }
      });
}

struct cpu_softmax_ops {
  template <class Y, class X>
  static void softmax_forward(cpu_context& context, const Y& y, const X& x) {
    const index_t columns = x.extent(X::rank - 1);
    for_each_row(context, y, 1, [&](index_t row, auto* values) {  // values [C]
      read_row(values, x, row);
      softmax_row(values, columns);
      write_row(y, row, values);
    });
  }

  template <class X, class G, class Y>
  static void softmax_backward(cpu_context& context, const X& dx, const G& dy, const Y& y) {
    const index_t columns = y.extent(Y::rank - 1);
    for_each_row(context, dx, 3, [&](index_t row, auto* gradient) {  // three rows [C]
      auto* result = gradient + columns;
      read_row(gradient, dy, row);
      read_row(result, y, row);
      softmax_row_gradient(gradient, result, result + columns, columns);
      write_row(dx, row, gradient);
    });
  }

 private:
  template <real Real, class X>
  static void read_row(Real* to, const X& x, index_t row) {
    const auto* from = x.data() + leading_offset(x, X::rank - 1, row);
    for (index_t c = 0, step = x.stride(X::rank - 1); c < x.extent(X::rank - 1); ++c) {
      to[c] = widen(from[c * step]);
    }
  }

  template <class Y, real Real>
  static void write_row(const Y& y, index_t row, const Real* from) {
    auto* to = y.data() + leading_offset(y, Y::rank - 1, row);
    for (index_t c = 0, step = y.stride(Y::rank - 1); c < y.extent(Y::rank - 1); ++c) {
      to[c * step] = narrow<typename Y::value_type>(from[c]);
    }
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
