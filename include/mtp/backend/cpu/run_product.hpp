// Products shared among the threads of a context.
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

/// Whether a product copies rows of A that would collide in the cache.
template <scalar Left, class Weight, scalar Result>
bool worth_copying(const product<Left, Weight, Result>& p) {
  return p.rows > tile_rows && p.panels() >= panels_worth_copying && rows_collide<Left>(p.a.row);
}

/// How a product is divided into tasks. The division does not change the result: each element is
/// one chain.
struct product_division {
  index_t tiles = 0;        // of the rows
  index_t row_tasks = 0;    // pieces of the rows, whole tiles each
  index_t unit = 1;         // panels that stay together
  index_t units = 0;        // of the product
  index_t panel_tasks = 1;  // pieces of the panels

  index_t tasks() const { return row_tasks * panel_tasks; }
  /// The first row of a piece of the rows, or of what is behind the last.
  index_t first_row(index_t piece) const { return tiles * piece / row_tasks * tile_rows; }
};

/// Tasks of a product for each thread: every task that packs rows packs them anew, so these are
/// fewer.
inline index_t tasks_of_thread(bool packs) {
  return packs ? 2 : 4;
}

/// A division into `wanted` tasks or more, as far as the product has that many. Where there are
/// more pieces of the rows than threads, each thread gets as many: six pieces of 384 rows and a
/// rest would leave one of two threads idle for an eighth of the time.
template <scalar Left, class Weight, scalar Result>
product_division divide_product(const product<Left, Weight, Result>& p,
                                index_t threads,
                                index_t wanted) {
  product_division d;
  const bool packs = p.packs_a() || p.packs_b();
  const index_t panels = p.panels();
  if (p.rows == 0 || panels == 0) {
    return d;
  }
  d.tiles = ceil_div(p.rows, index_t{tile_rows});
  d.row_tasks = ceil_div(p.rows, packs ? packed_rows : block_rows);
  if (d.row_tasks > threads) {
    d.row_tasks = (std::min)(d.tiles, round_up(d.row_tasks, threads));
  }
  // Few rows: whole groups of panels, so that tiles of several panels stay whole.
  d.unit = p.rows <= tile_rows ? (std::min)(neighbours(p.rows), ceil_div(panels, threads)) : 1;
  d.units = ceil_div(panels, d.unit);
  d.panel_tasks = (std::min)(d.units, (std::max<index_t>)(1, ceil_div(wanted, d.row_tasks)));
  return d;
}

/// Scratch memory of the threads that work on products.
template <scalar Left>
struct product_memory {
  Left* scratch;  // [threads, product_scratch]; null where nothing is packed
  accumulate_t<Left>* sums;
  index_t sums_count;  // of a thread

  static product_memory take(cpu_context& context, bool packs, index_t sums_count) {
    arena& memory = context.workspace();
    Left* const scratch =
        packs ? memory.take<Left>(context.threads() * product_scratch<Left>) : nullptr;
    return {scratch, memory.take<accumulate_t<Left>>(context.threads() * sums_count), sums_count};
  }
};

/// Task number `task` of a product.
template <scalar Left, class Weight, scalar Result>
void run_product_task(const product<Left, Weight, Result>& p,
                      const product_division& d,
                      index_t task,
                      const product_memory<Left>& memory,
                      int thread) {
  const index_t piece = task / d.panel_tasks;
  const index_t part = task % d.panel_tasks;
  multiply_block(
      p,
      d.first_row(piece),
      (std::min)(d.first_row(piece + 1), p.rows),
      d.units * part / d.panel_tasks * d.unit,
      (std::min)(p.panels(), d.units * (part + 1) / d.panel_tasks * d.unit),
      memory.scratch != nullptr ? memory.scratch + thread * product_scratch<Left> : nullptr,
      memory.sums + thread * memory.sums_count);
}

/// All of a product on the calling thread.
template <scalar Left, class Weight, scalar Result>
void run_product_alone(const product<Left, Weight, Result>& p, const product_memory<Left>& memory) {
  multiply_block(p, 0, p.rows, index_t{0}, p.panels(), memory.scratch, memory.sums);
}

/// Runs the product.
template <scalar Left, class Weight, scalar Result>
inline void run_product(cpu_context& context, product<Left, Weight, Result> p) {
  if (p.rows == 0 || p.columns == 0) {
    return;
  }
  p.copies_rows = worth_copying(p);
  const bool packs = p.packs_a() || p.packs_b();
  const arena::scope scope(context.workspace());
  const auto memory =
      product_memory<Left>::take(context, packs, product_sums<Left, Result>(p.inner_size));
  if (context.threads() == 1 || p.rows * p.columns * p.inner_size <= serial_work) {
    run_product_alone(p, memory);
    return;
  }
  const auto division =
      divide_product(p, context.threads(), context.threads() * tasks_of_thread(packs));
  context.parallel(division.tasks(), [&](index_t task, int thread) {
    run_product_task(p, division, task, memory, thread);
  });
}

/// The most bytes of workspace that run_products needs for `count` products.
template <factor S>
constexpr index_t products_workspace(index_t count, index_t inner_size, index_t threads) {
  return product_workspace<S>(inner_size, threads) +
         arena_bytes(count + 1, static_cast<index_t>(sizeof(index_t)));
}

/// Runs `count` products of very different sizes, product_of(0) .., in one go: each gets tasks by
/// its share of the multiply-adds, and free threads take the next one whichever product it belongs
/// to.
template <class ProductOf>
void run_products(cpu_context& context, index_t count, const ProductOf& product_of) {
  const auto prepared = [&](index_t i) {
    auto p = product_of(i);
    p.copies_rows = worth_copying(p);
    return p;
  };
  const auto work_of = [](const auto& p) { return p.rows * p.columns * p.inner_size; };
  index_t work = 0, longest = 0;
  bool packs = false;
  for (index_t i = 0; i < count; ++i) {
    const auto p = prepared(i);
    if (p.rows > 0) {
      work += work_of(p);
      longest = (std::max)(longest, p.inner_size);
      packs = packs || p.packs_a() || p.packs_b();
    }
  }
  using product_type = decltype(product_of(index_t{}));
  using left_type = typename product_type::left_type;
  const arena::scope scope(context.workspace());
  const auto memory = product_memory<left_type>::take(
      context, packs, product_sums<left_type, typename product_type::result_type>(longest));
  if (context.threads() == 1 || work <= serial_work) {
    for (index_t i = 0; i < count; ++i) {
      if (const auto p = prepared(i); p.rows > 0 && p.columns > 0) {
        run_product_alone(p, memory);
      }
    }
    return;
  }
  const index_t all_tasks = context.threads() * tasks_of_thread(packs);
  const auto divided = [&](const auto& p) {
    // In double, because the product of the two would not fit into index_t.
    const double share = static_cast<double>(work_of(p)) / static_cast<double>(work);
    return divide_product(
        p, context.threads(), static_cast<index_t>(share * static_cast<double>(all_tasks)) + 1);
  };
  auto* const first_task = context.workspace().take<index_t>(count + 1);  // of each product
  first_task[0] = 0;
  for (index_t i = 0; i < count; ++i) {
    first_task[i + 1] = first_task[i] + divided(prepared(i)).tasks();
  }
  context.parallel(first_task[count], [&](index_t task, int thread) {
    const index_t i = std::upper_bound(first_task, first_task + count + 1, task) - first_task - 1;
    const auto p = prepared(i);
    run_product_task(p, divided(p), task - first_task[i], memory, thread);
  });
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
