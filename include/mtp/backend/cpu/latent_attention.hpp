// Attention over latents on the CPU. Contracts: ops/latent_attention.hpp.
//
// Positions go by in blocks whose borders are fixed, with an online softmax (Milakov and Gimelshein
// 2018, arXiv 1805.02867). Lanes are heads while scores are computed, so the rows of a block are
// read once for all heads and several rows of the pass: a score is one chain over a row, the
// largest score, the sum of exponentials and each element of the output are chains over positions.
// All of them depend on the row's own position alone.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <type_traits>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/product.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/backend/cpu/widened.hpp"
#include "mtp/core/cache_view.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Positions of a block. Part of the order of sums.
inline constexpr index_t latent_block = 64;
/// Rows of a pass that read a block together; no result depends on it.
inline constexpr index_t latent_rows = 8;

/// Scratch of one thread, cut into its pieces: for `rows` rows, whose heads are a panel each.
template <real S>
struct latent_scratch {
  index_t rows, width, value_width;

  static constexpr index_t heads = panel_width<S>;
  constexpr index_t columns() const { return rows * heads; }

  constexpr index_t queries() const { return 0; }                             // [rows, W, heads]
  constexpr index_t tile() const { return queries() + columns() * width; }    // [block, W]
  constexpr index_t scores() const { return tile() + latent_block * width; }  // [block, columns]
  constexpr index_t largest() const { return scores() + latent_block * columns(); }  // [columns]
  constexpr index_t totals() const { return largest() + columns(); }                 // [columns]
  constexpr index_t factors() const { return totals() + columns(); }                 // [columns]
  constexpr index_t sums() const { return factors() + columns(); }                   // [columns, R]
  constexpr index_t packed() const { return sums() + columns() * value_width; }
  constexpr index_t total() const { return packed() + product_scratch<S>; }
};

/// Rows of a block: position `begin + j` of what a row sees is row j.
template <class S>
struct latent_rows_of_block {
  const S* data;
  index_t stride;
};

/// A few rows of one run and some of their heads.
template <real S, scalar Stored>
class latent_attention_task {
  template <class Element>
  using heads_view = view<Element, dims<3>, cpu>;
  static constexpr index_t width = panel_width<S>;

 public:
  latent_attention_task(const latent_scratch<S>& plan,
                        S* scratch,
                        const latent_cache_view<Stored, cpu>& cache,
                        S scale)
      : plan_(plan), scratch_(scratch), cache_(cache), scale_(scale) {}

  /// Rows [from, from + rows) of the run, which begins at `run_begin` of the pass, and heads
  /// [first, first + count), a panel at most.
  void run(const heads_view<S>& out,
           const heads_view<const S>& q,
           const vector_view<const index_t, cpu>& positions,
           const row_run& run,
           index_t run_begin,
           index_t from,
           index_t rows,
           index_t first,
           index_t count) const {
    const index_t row0 = run_begin + from, base = positions(run_begin);
    const bool is_tree = run.parents != nullptr;
    for (index_t r = 0; r < rows; ++r) {
      pack_queries(r, q, row0 + r, first, count);
    }
    // What all rows see: whole blocks in front of the first row, or of the tree.
    const index_t seen = is_tree ? base : positions(row0) + 1;
    const index_t shared = seen / latent_block * latent_block;
    for (index_t begin = 0; begin < shared; begin += latent_block) {
      block(begin, latent_block, 0, rows, count, rows_at(begin, latent_block));
    }
    for (index_t r = 0; r < rows; ++r) {
      const index_t end = positions(row0 + r) + 1;
      for (index_t begin = shared; begin < end; begin += latent_block) {
        const index_t length = (std::min)(latent_block, end - begin);
        const auto tile = is_tree ? rows_of_path(begin, length, base, run.parents, from + r, end)
                                  : rows_at(begin, length);
        block(begin, length, r, 1, count, tile);
      }
    }
    for (index_t r = 0; r < rows; ++r) {
      for (index_t h = 0; h < count; ++h) {
        const index_t column = r * width + h;
        const auto inverse = broadcast<S>(S{1} / at(plan_.totals())[column]);
        const S* const sums = at(plan_.sums()) + column * plan_.value_width;
        S* const to = &out(row0 + r, first + h, 0);
        for_each_packet<S>(plan_.value_width, [&](auto read, auto write) {
          write(to, multiply(read(sums), inverse));
        });
      }
    }
  }

 private:
  S* at(index_t offset) const { return scratch_ + offset; }

  /// Lanes are heads; those that are not there are zeros.
  void pack_queries(
      index_t r, const heads_view<const S>& q, index_t row, index_t first, index_t count) const {
    S* const to = at(plan_.queries()) + r * plan_.width * width;
    for (index_t h = 0; h < width; ++h) {
      const S* const from = h < count ? &q(row, first + h, 0) : nullptr;
      for (index_t e = 0; e < plan_.width; ++e) {
        to[e * width + h] = from != nullptr ? from[e] : S{0};
      }
    }
  }

  /// Rows of the cache, as they lie there or widened.
  latent_rows_of_block<S> rows_at(index_t begin, index_t length) const {
    if constexpr (std::is_same_v<S, Stored>) {
      return {cache_.data + begin * plan_.width, plan_.width};
    } else {
      for (index_t j = 0; j < length; ++j) {
        copy_row(j, begin + j);
      }
      return {at(plan_.tile()), plan_.width};
    }
  }

  /// The same of row `row` of a tree, which stands behind `base` positions and sees `end` in all:
  /// the rows that lead to it, side by side.
  latent_rows_of_block<S> rows_of_path(index_t begin,
                                       index_t length,
                                       index_t base,
                                       const index_t* parents,
                                       index_t row,
                                       index_t end) const {
    for (index_t j = 0; j < length && begin + j < base; ++j) {
      copy_row(j, begin + j);
    }
    for (index_t position = end - 1; position >= (std::max)(base, begin); --position) {
      if (position < begin + length) {
        copy_row(position - begin, base + row);
      }
      row = position > base ? parents[row] : row;
    }
    return {at(plan_.tile()), plan_.width};
  }

  void copy_row(index_t to, index_t place) const {
    convert_row(
        at(plan_.tile()) + to * plan_.width, cache_.data + place * plan_.width, plan_.width);
  }

  /// Adds a block to what rows [row, row + rows) have seen.
  void block(index_t begin,
             index_t length,
             index_t row,
             index_t rows,
             index_t count,
             const latent_rows_of_block<S>& tile) const {
    const index_t first = row * width, columns = rows * width, W = plan_.width;
    product<S> score;  // scores[j, column] = latent[j] . query of the column
    score.rows = length;
    score.columns = columns;
    score.inner_size = W;
    score.a = {tile.data, tile.stride, 1};
    score.b = at(plan_.queries()) + row * W * width;
    score.b_panel = W * width;
    score.c = panels_of<S>::row_major(at(plan_.scores()) + first, plan_.columns());
    multiply_block(score, 0, length, index_t{0}, score.panels(), at(plan_.packed()));
    for (index_t column = first; column < first + columns; column += lanes<S>) {
      weigh(begin, length, column);
    }
    const bool whole = count == width;  // all rows at once, as there are no lanes without heads
    const index_t step = whole ? columns : width, heads = whole ? columns : count;
    for (index_t column = first; column < first + columns; column += step) {
      add_values(begin, length, column, heads, tile);
    }
  }

  /// Scores of a packet of columns become exponentials.
  void weigh(index_t begin, index_t length, index_t column) const {
    const index_t row = plan_.columns();
    S* const scores = at(plan_.scores()) + column;
    auto most = load<S>(scores);
    for (index_t j = 1; j < length; ++j) {
      most = maximum(most, load<S>(scores + j * row));
    }
    const auto factor = broadcast<S>(scale_);
    most = multiply(most, factor);
    auto total = broadcast<S>(S{0});
    if (begin > 0) {
      const auto before = load<S>(at(plan_.largest()) + column);
      most = maximum(most, before);
      const auto kept = exponential<S>(subtract(before, most));
      store<S>(at(plan_.factors()) + column, kept);
      total = multiply(load<S>(at(plan_.totals()) + column), kept);
    }
    store<S>(at(plan_.largest()) + column, most);
    const auto shift = subtract(broadcast<S>(S{0}), most);
    for (index_t j = 0; j < length; ++j) {
      const auto weight = exponential<S>(multiply_add(load<S>(scores + j * row), factor, shift));
      store<S>(scores + j * row, weight);
      total = add(total, weight);
    }
    store<S>(at(plan_.totals()) + column, total);
  }

  /// sums[column] = sums[column] factor + sum over j of weight[j, column] latent[j, 0 .. R).
  void add_values(index_t begin,
                  index_t length,
                  index_t column,
                  index_t heads,
                  const latent_rows_of_block<S>& tile) const {
    const index_t R = plan_.value_width;
    S* const sums = at(plan_.sums()) + column * R;
    product<S> value;
    value.rows = heads;
    value.columns = R;
    value.inner_size = length;
    value.a = {at(plan_.scores()) + column, 1, plan_.columns()};
    value.b = tile.data;
    value.b_panel = width;
    value.b_step = tile.stride;
    value.c = panels_of<S>::row_major(sums, R);
    if (begin > 0) {
      for (index_t h = 0; h < heads; ++h) {
        const auto factor = broadcast<S>(at(plan_.factors())[column + h]);
        for_each_packet<S>(R, [&](auto read, auto write) {
          write(sums + h * R, multiply(read(sums + h * R), factor));
        });
      }
      value.init = {value.c.data, value.c.row, value.c.panel};
    }
    multiply_block(value, 0, heads, index_t{0}, value.panels(), at(plan_.packed()));
  }

  latent_scratch<S> plan_;
  S* scratch_;
  latent_cache_view<Stored, cpu> cache_;
  S scale_;
};

struct cpu_latent_attention_ops {
  template <class S>
  using heads = view<S, dims<3>, cpu>;

  /// The most bytes of workspace that these operations need for `rows` rows of H heads with rows of
  /// W elements in the cache, R of them values.
  template <scalar S>
  static constexpr index_t latent_attention_workspace(
      index_t rows, index_t H, index_t W, index_t R, index_t threads) {
    using A = accumulate_t<S>;
    const latent_scratch<A> plan{(std::min)(rows, latent_rows), W, R};
    return arena_bytes(threads * plan.total(), sizeof(A)) + widened_bytes<S>(rows * H * W) +
           widened_bytes<S>(rows * H * R) + widened_bytes<S>(rows * W);
  }

  template <real S, scalar Stored>
  static void latent_attention_cached_forward(cpu_context& context,
                                              heads<S> out,
                                              latent_cache_view<Stored, cpu> cache,
                                              heads<const S> q,
                                              matrix_view<const S, cpu> latent,
                                              double scale,
                                              vector_view<const index_t, cpu> positions,
                                              std::span<const row_run> runs) {
    const index_t H = q.extent(1), W = q.extent(2), R = out.extent(2);
    if (out.empty()) {
      return;
    }
    const index_t panels = ceil_div(H, panel_width<S>);
    const auto groups_of = [](const row_run& run) { return ceil_div(run.rows, latent_rows); };
    index_t row = 0, tasks = 0, work = 0, most = 0;
    for (const row_run& run : runs) {
      for (index_t r = 0; r < run.rows; ++r) {
        const index_t place = run.parents == nullptr ? positions(row + r) : positions(row) + r;
        convert_row(cache.at(run.slot).data + place * W, &latent(row + r, 0), W);
      }
      tasks += groups_of(run) * panels;
      work += run.rows == 0 ? 0 : run.rows * H * W * (positions(row) + run.rows);
      most = (std::max)(most, run.rows);
      row += run.rows;
    }
    const latent_scratch<S> plan{(std::min)(most, latent_rows), W, R};
    const arena::scope scope(context.workspace());
    S* const scratch = context.workspace().template take<S>(context.threads() * plan.total());
    const auto run_task = [&](index_t task, int thread) {
      index_t begin = 0;
      const row_run* run = runs.data();
      for (index_t own = 0; task >= (own = groups_of(*run) * panels); ++run) {
        task -= own;
        begin += run->rows;
      }
      const index_t from = task / panels * latent_rows, first = task % panels * panel_width<S>;
      latent_attention_task<S, Stored>(
          plan, scratch + thread * plan.total(), cache.at(run->slot), static_cast<S>(scale))
          .run(out,
               q,
               positions,
               *run,
               begin,
               from,
               (std::min)(latent_rows, run->rows - from),
               first,
               (std::min)(panel_width<S>, H - first));
    };
    constexpr index_t little_work = 1 << 15;  // with less, one thread is faster
    if (work <= little_work) {
      for (index_t task = 0; task < tasks; ++task) {
        run_task(task, 0);
      }
    } else {
      context.parallel(tasks, run_task);
    }
  }

  /// The cache is read as it is.
  template <class Out, class Cache, class Heads, class Rows>
  requires some_widened<Out, Heads, Rows>
  static void latent_attention_cached_forward(cpu_context& context,
                                              Out out,
                                              Cache cache,
                                              Heads q,
                                              Rows latent,
                                              double scale,
                                              vector_view<const index_t, cpu> positions,
                                              std::span<const row_run> runs) {
    run_widened(
        context,
        [&](auto wide_out, auto wide_q, auto wide_latent) {
          latent_attention_cached_forward(
              context, wide_out, cache, wide_q, wide_latent, scale, positions, runs);
        },
        out,
        q,
        latent);
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
