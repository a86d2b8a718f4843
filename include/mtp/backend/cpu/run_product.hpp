// A product shared among the threads of a context.
#pragma once

#include <algorithm>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/product.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Multiply-adds below which a second thread costs more than it saves: less than 1 us of one core.
inline constexpr index_t serial_work = 1 << 14;

/// From this many panels on, rows that collide in the cache are copied: each copy serves all
/// panels.
inline constexpr index_t panels_worth_copying = 8;

/// The most bytes of workspace that products of rows of S need, for chains of `inner_size` links.
template <factor S>
constexpr index_t product_workspace(index_t inner_size, index_t threads) {
  return arena_bytes(threads * product_scratch<S>, sizeof(S)) +
         arena_bytes(threads * product_sums<S, S>(inner_size), sizeof(accumulate_t<S>));
}

/// Runs the product. The division into tasks does not change the result: each element is one chain.
template <scalar Left, class Weight, scalar Result>
inline void run_product(cpu_context& context, product<Left, Weight, Result> p) {
  if (p.rows == 0 || p.columns == 0) {
    return;
  }
  const index_t panels = p.panels();
  p.copies_rows =
      p.rows > tile_rows && panels >= panels_worth_copying && rows_collide<Left>(p.a.row);
  const bool packs = p.packs_a() || p.packs_b();
  const arena::scope scope(context.workspace());
  Left* const scratch =
      packs ? context.workspace().take<Left>(context.threads() * product_scratch<Left>) : nullptr;
  const index_t sums_count = product_sums<Left, Result>(p.inner_size);
  accumulate_t<Left>* const sums =
      context.workspace().take<accumulate_t<Left>>(context.threads() * sums_count);
  const auto multiply =
      [&](index_t row_begin, index_t row_end, index_t panel_begin, index_t panel_end, int thread) {
        multiply_block(p,
                       row_begin,
                       row_end,
                       panel_begin,
                       panel_end,
                       packs ? scratch + thread * product_scratch<Left> : nullptr,
                       sums + thread * sums_count);
      };
  if (context.threads() == 1 || p.rows * p.columns * p.inner_size <= serial_work) {
    multiply(0, p.rows, 0, panels, 0);
    return;
  }
  const index_t row_step = packs ? packed_rows : p.rows <= tile_rows ? p.rows : block_rows;
  const index_t row_tasks = ceil_div(p.rows, row_step);
  // Few rows: whole groups of panels, so that tiles of several panels stay whole.
  const index_t unit =
      p.rows <= tile_rows ? (std::min)(neighbours(p.rows), ceil_div(panels, context.threads())) : 1;
  const index_t units = ceil_div(panels, unit);
  // Every task packs its rows anew, so tasks that pack are fewer.
  const index_t per_thread = packs ? 2 : 4;
  const index_t wanted =
      (std::max<index_t>)(1, ceil_div(context.threads() * per_thread, row_tasks));
  const index_t panel_tasks = (std::min)(units, wanted);
  context.parallel(row_tasks * panel_tasks, [&](index_t task, int thread) {
    const index_t row = task / panel_tasks * row_step;
    const index_t part = task % panel_tasks;
    multiply(row,
             (std::min)(row + row_step, p.rows),
             units * part / panel_tasks * unit,
             (std::min)(panels, units * (part + 1) / panel_tasks * unit),
             thread);
  });
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
