// Attention on the CPU. Contracts: ops/attention.hpp.
#pragma once

#include <algorithm>
#include <span>

#include "mtp/backend/cpu/attention_backward.hpp"
#include "mtp/backend/cpu/attention_tile.hpp"
#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/widened.hpp"
#include "mtp/core/cache_view.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

template <real S>
constexpr index_t forward_scratch(index_t length, index_t head_dim, index_t value_dim) {
  return packed_head<S>::storage(length, head_dim, value_dim) +
         attend_scratch<S>(length, value_dim);
}

/// attend(query head, row, rows) for the rows of a tree, from row `from` of the pass on, and the
/// `group` query heads of key/value head g. What leads to a row stands in the cache as it would
/// in a sequence without branches while the row is computed, so its sums are the same ones; at
/// last each row of the tree stands at a place of its own.
template <real S, scalar Stored, class Attend>
inline void attend_tree(const packed_head<Stored>& head,
                        const row_run& run,
                        index_t from,
                        index_t g,
                        index_t group,
                        view<const S, dims<3>, cpu> k,
                        view<const S, dims<3>, cpu> v,
                        vector_view<const index_t, cpu> positions,
                        const Attend& attend) {
  const index_t base = positions(from);
  const auto write = [&](index_t place, index_t r) {
    head.write(place, &k(from + r, g, 0), &v(from + r, g, 0));
  };
  for (index_t r = 0; r < run.rows;) {
    index_t at = r;
    for (index_t place = positions(from + r) - 1; place >= base; --place) {
      write(place, at = run.parents[at]);
    }
    index_t rows = 0;  // from r on, each behind the one before it
    do {
      write(positions(from + r) + rows, r + rows);
      ++rows;
    } while (rows < tile_rows && r + rows < run.rows && run.parents[r + rows] == r + rows - 1);
    for (index_t h = g * group; h < (g + 1) * group; ++h) {
      attend(h, from + r, rows);
    }
    r += rows;
  }
  for (index_t r = 0; r < run.rows; ++r) {
    write(base + r, r);
  }
}

struct cpu_attention_ops : cpu_attention_backward_ops {
  /// Elements of a cache of `capacity` positions.
  template <scalar S>
  static constexpr index_t kv_storage(index_t capacity,
                                      index_t num_key_value_heads,
                                      index_t head_dim) {
    return num_key_value_heads * packed_head<S>::storage(capacity, head_dim);
  }

  /// The most bytes of workspace that these operations need: `rows` rows in sequences or caches of
  /// at most `length` positions, with all query heads `query_size` wide and all key/value heads
  /// `key_value_size`. Where keys and values differ in width, the larger one counts for all.
  template <scalar S>
  static constexpr index_t attention_workspace(index_t rows,
                                               index_t length,
                                               index_t query_size,
                                               index_t key_value_size,
                                               index_t head_dim,
                                               index_t threads) {
    using A = accumulate_t<S>;
    return arena_bytes(
               threads * (std::max)(forward_scratch<A>(length, head_dim, head_dim),
                                    backward_scratch<A>{length, head_dim, head_dim}.total()),
               sizeof(A)) +
           4 * (widened_bytes<S>(rows * query_size) + widened_bytes<S>(rows * key_value_size));
  }

  template <real S>
  static void attention_forward(cpu_context& context,
                                heads<S> out,
                                matrix_view<S, cpu> statistics,
                                heads<const S> q,
                                heads<const S> k,
                                heads<const S> v,
                                index_t batch) {
    attention_forward(
        context, out, statistics, q, k, v, batch, default_attention_scale(q.extent(2)));
  }

  template <real S>
  static void attention_forward(cpu_context& context,
                                heads<S> out,
                                matrix_view<S, cpu> statistics,
                                heads<const S> q,
                                heads<const S> k,
                                heads<const S> v,
                                index_t batch,
                                double scale) {
    const index_t T = q.extent(0) / batch, H = q.extent(1), G = k.extent(1), E = q.extent(2);
    const index_t V = v.extent(2);
    if (q.empty()) {
      return;
    }
    const arena::scope scope(context.workspace());
    const index_t scratch_count = forward_scratch<S>(T, E, V);
    S* const scratch = context.workspace().template take<S>(context.threads() * scratch_count);
    context.parallel(batch * G, [&](index_t task, int thread) {
      const index_t row0 = task / G * T, g = task % G;
      S* const own = scratch + thread * scratch_count;
      const packed_head<S> head(own, T, E, V);
      head.write_all(T, &k(row0, g, 0), k.stride(0), &v(row0, g, 0), v.stride(0));
      for (index_t h = g * (H / G); h < (g + 1) * (H / G); ++h) {
        for (index_t t = 0; t < T; t += tile_rows) {
          const index_t rows = (std::min<index_t>)(tile_rows, T - t);
          attend<S>(head,
                    rows,
                    t,
                    static_cast<S>(scale),
                    &q(row0 + t, h, 0),
                    q.stride(0),
                    &out(row0 + t, h, 0),
                    out.stride(0),
                    &statistics(row0 + t, h),
                    &statistics(row0 + t, H + h),
                    statistics.stride(0),
                    own + packed_head<S>::storage(T, E, V));
        }
      }
    });
  }

  template <real S, scalar Stored>
  static void attention_cached_forward(cpu_context& context,
                                       heads<S> out,
                                       cache_view<Stored, cpu> cache,
                                       heads<const S> q,
                                       heads<const S> k,
                                       heads<const S> v,
                                       vector_view<const index_t, cpu> positions,
                                       std::span<const row_run> runs) {
    const index_t H = q.extent(1), G = k.extent(1), E = q.extent(2);
    const auto head_of = [&](index_t slot, index_t g) {
      return packed_head<Stored>(
          cache.at(slot).data + g * packed_head<Stored>::storage(cache.capacity, E),
          cache.capacity,
          E);
    };
    // A run without branches has a task for each tile of its rows and head, a tree for each head of
    // keys, because its paths take turns in the cache.
    const auto tiles_of = [](const row_run& run) { return ceil_div(run.rows, index_t{tile_rows}); };
    const auto tasks_of = [&](const row_run& run) {
      return run.rows == 0 ? 0 : run.parents == nullptr ? H * tiles_of(run) : G;
    };
    index_t row = 0, tasks = 0, work = 0, longest = 0;
    for (const row_run& run : runs) {
      if (run.rows == 0) {
        continue;
      }
      const index_t first = positions(row), end = first + run.rows;
      for (index_t g = 0; g < G && run.parents == nullptr; ++g) {
        const packed_head<Stored> head = head_of(run.slot, g);
        for (index_t m = 0; m < run.rows; ++m) {
          head.write(first + m, &k(row + m, g, 0), &v(row + m, g, 0));
        }
      }
      tasks += tasks_of(run);
      work += run.rows * H * E * end;
      longest = (std::max)(longest, end);
      row += run.rows;
    }
    const arena::scope scope(context.workspace());
    const index_t scratch_count = attend_scratch<S>(longest, E);
    S* const scratch = context.workspace().template take<S>(context.threads() * scratch_count);
    const auto attend_rows =
        [&](const packed_head<Stored>& head, index_t h, index_t m, index_t rows, int thread) {
          attend<S>(head,
                    rows,
                    positions(m),
                    static_cast<S>(default_attention_scale(E)),
                    &q(m, h, 0),
                    q.stride(0),
                    &out(m, h, 0),
                    out.stride(0),
                    static_cast<S*>(nullptr),
                    static_cast<S*>(nullptr),
                    0,
                    scratch + thread * scratch_count);
        };
    const auto run_task = [&](index_t task, int thread) {
      index_t from = 0;
      const row_run* run = runs.data();
      for (index_t own = 0; task >= (own = tasks_of(*run)); ++run) {
        task -= own;
        from += run->rows;
      }
      if (run->parents != nullptr) {
        attend_tree(head_of(run->slot, task),
                    *run,
                    from,
                    task,
                    H / G,
                    k,
                    v,
                    positions,
                    [&](index_t h, index_t m, index_t rows) {
                      attend_rows(head_of(run->slot, task), h, m, rows, thread);
                    });
        return;
      }
      const index_t tiles = tiles_of(*run);
      const index_t h = task / tiles, m = task % tiles * tile_rows;
      const index_t rows = (std::min<index_t>)(tile_rows, run->rows - m);
      attend_rows(head_of(run->slot, h / (H / G)), h, from + m, rows, thread);
    };
    constexpr index_t serial_work = 1 << 15;  // with less, one thread is faster
    if (work <= serial_work) {
      for (index_t task = 0; task < tasks; ++task) {
        run_task(task, 0);
      }
    } else {
      context.parallel(tasks, run_task);
    }
  }

  template <class... Views>
  requires some_widened<Views...>
  static void attention_forward(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { attention_forward(context, each...); }, views...);
  }

  /// The cache is read as it is: each step reads all of it once.
  template <class Out, class Cache, class Heads>
  requires some_widened<Out, Heads>
  static void attention_cached_forward(cpu_context& context,
                                       Out out,
                                       Cache cache,
                                       Heads q,
                                       Heads k,
                                       Heads v,
                                       vector_view<const index_t, cpu> positions,
                                       std::span<const row_run> runs) {
    run_widened(
        context,
        [&](auto wide_out, auto... wide) {
          attention_cached_forward(context, wide_out, cache, wide..., positions, runs);
        },
        out,
        q,
        k,
        v);
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
