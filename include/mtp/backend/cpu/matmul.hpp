// General matrix products on the CPU: b is packed into panels, block by block, and multiply_block
// does the rest.
//
// The workspace of a product does not grow with the matrices: rows, columns and steps are divided
// into blocks. Between blocks of steps, sums are stored in full precision, so the division does not
// change the bits.
#pragma once

#include <algorithm>
#include <concepts>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/elementwise.hpp"
#include "mtp/backend/cpu/product.hpp"
#include "mtp/core/arena.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/ops/matmul.hpp"  // update

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct matmul_blocks {
  static constexpr index_t rows = 1024;        // of c at a time
  static constexpr index_t inner_size = 1024;  // steps at a time
  static constexpr index_t panels = 16;        // of b at a time: 2 MiB
  // The extent of one task: the rows that multiply_block keeps in cache, and the panels that it
  // takes at once.
  static constexpr index_t task_rows = block_rows;
  static constexpr index_t task_panels = 4;
};

/// to[i * row + j] = x(i, j) for a part of x, widened.
template <class X, real Real>
void widen_block(
    Real* to, index_t row, const X& x, index_t i, index_t rows, index_t j, index_t columns) {
  const auto* from = x.data() + i * x.stride(0) + j * x.stride(1);
  for (index_t r = 0; r < rows; ++r) {
    for (index_t c = 0; c < columns; ++c) {
      to[r * row + c] = widen(from[r * x.stride(0) + c * x.stride(1)]);
    }
  }
}

/// The panel of b that begins at column j, steps [k, k + inner_size), zeros beyond b's last column.
template <class B, real Real>
void pack_panel(Real* to, const B& b, index_t k, index_t inner_size, index_t j) {
  constexpr index_t width = panel_width<Real>;
  const index_t columns = (std::min)(width, b.extent(1) - j);
  if (columns < width) {
    std::fill_n(to, inner_size * width, Real{0});
  }
  widen_block(to, width, b, k, inner_size, j, columns);
}

/// One product: its views, and the scratch of its blocks.
template <class C, class A, class B>
class matmul_run {
  using real_type = accumulate_t<typename C::value_type>;
  using blocks = matmul_blocks;
  static constexpr index_t width = panel_width<real_type>;
  static constexpr bool widens_a = !std::same_as<typename A::value_type, real_type>;

 public:
  matmul_run(cpu_context& context, const C& c, const A& a, const B& b, update mode)
      : context_(context), scope_(context.workspace()), c_(c), a_(a), b_(b), mode_(mode) {
    const index_t rows = (std::min)(blocks::rows, c.extent(0));
    const index_t inner_size = (std::min)(blocks::inner_size, a.extent(1));
    const index_t panels = (std::min)(blocks::panels, ceil_div(c.extent(1), width));
    arena& workspace = context.workspace();
    packed_b_ = workspace.template take<real_type>(panels * inner_size * width);
    scratch_ = workspace.template take<real_type>(context.threads() * product_scratch<real_type>);
    if constexpr (widens_a) {
      wide_a_ = workspace.template take<real_type>(rows * inner_size);
    }
    if (!in_place()) {
      sums_ = workspace.template take<real_type>(rows * panels * width);
    }
  }

  void run() {
    const index_t M = c_.extent(0), N = c_.extent(1);
    for (index_t i = 0; i < M; i += blocks::rows) {
      for (index_t j = 0; j < N; j += blocks::panels * width) {
        run_block(i, (std::min)(blocks::rows, M - i), j, (std::min)(blocks::panels * width, N - j));
      }
    }
  }

 private:
  /// Whether c itself can store the sums between blocks.
  bool in_place() const {
    return std::same_as<typename C::value_type, real_type> && c_.stride(1) == 1;
  }

  void run_block(index_t i, index_t rows, index_t j, index_t columns) {
    real_type* sums = sums_;  // [rows, columns] stride (row, 1)
    index_t row = blocks::panels * width;
    if constexpr (std::same_as<typename C::value_type, real_type>) {
      if (in_place()) {
        sums = c_.data() + i * c_.stride(0) + j;
        row = c_.stride(0);
      }
    }
    if (mode_ == update::accumulate && !in_place()) {
      widen_block(sums, row, c_, i, rows, j, columns);
    }
    const index_t K = a_.extent(1);
    for (index_t k = 0; k < K || k == 0; k += blocks::inner_size) {
      const bool start = mode_ == update::accumulate || k > 0;
      multiply(i, rows, j, columns, k, (std::min)(blocks::inner_size, K - k), sums, row, start);
    }
    if (!in_place()) {
      auto* to = c_.data() + i * c_.stride(0) + j * c_.stride(1);
      for (index_t r = 0; r < rows; ++r) {
        for (index_t n = 0; n < columns; ++n) {
          to[r * c_.stride(0) + n * c_.stride(1)] =
              narrow<typename C::value_type>(sums[r * row + n]);
        }
      }
    }
  }

  /// sums = [sums +] a[i .. , k .. ] b[k .. , j .. ]
  void multiply(index_t i,
                index_t rows,
                index_t j,
                index_t columns,
                index_t k,
                index_t inner_size,
                real_type* sums,
                index_t row,
                bool start) {
    const index_t panels = ceil_div(columns, width);
    context_.parallel(panels, [&](index_t panel, int) {
      pack_panel(packed_b_ + panel * inner_size * width, b_, k, inner_size, j + panel * width);
    });
    rows_of<real_type> left{};
    if constexpr (widens_a) {
      context_.parallel_ranges(rows, blocks::task_rows, [&](index_t begin, index_t end, int) {
        widen_block(
            wide_a_ + begin * inner_size, inner_size, a_, i + begin, end - begin, k, inner_size);
      });
      left = {wide_a_, inner_size, 1};
    } else {
      left = {a_.data() + i * a_.stride(0) + k * a_.stride(1), a_.stride(0), a_.stride(1)};
    }
    const product<real_type> whole{
        .rows = rows,
        .columns = columns,
        .inner_size = inner_size,
        .a = left,
        .b = packed_b_,
        .b_panel = inner_size * width,
        .init = panels_of<const real_type>::row_major(start ? sums : nullptr, row),
        .c = panels_of<real_type>::row_major(sums, row)};
    const index_t groups = ceil_div(panels, blocks::task_panels);
    context_.parallel(groups * ceil_div(rows, blocks::task_rows), [&](index_t task, int thread) {
      const index_t panel = task % groups * blocks::task_panels;
      const index_t first = task / groups * blocks::task_rows;
      multiply_block(whole,
                     first,
                     (std::min)(first + blocks::task_rows, rows),
                     panel,
                     (std::min)(panel + blocks::task_panels, panels),
                     scratch_ + thread * product_scratch<real_type>);
    });
  }

  cpu_context& context_;
  arena::scope scope_;
  C c_;  // [M, N]
  A a_;  // [M, K]
  B b_;  // [K, N]
  update mode_;
  real_type* packed_b_ = nullptr;  // [panels][inner_size][width]
  real_type* scratch_ = nullptr;   // [threads][product_scratch]
  real_type* wide_a_ = nullptr;    // [rows, inner_size], where a is not real_type
  real_type* sums_ = nullptr;      // [rows, columns], where c cannot hold them
};

struct cpu_matmul_ops {
  template <class C, class A, class B>
  static void matmul(cpu_context& context, const C& c, const A& a, const B& b, update mode) {
    if (!c.empty()) {
      matmul_run<C, A, B>(context, c, a, b, mode).run();
    }
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
