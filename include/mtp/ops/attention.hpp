// Causal grouped-query attention: over whole sequences with its gradient, and over a cache.
#pragma once

#include <algorithm>
#include <span>
#include <type_traits>

#include "mtp/core/cache_view.hpp"
#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// Values may have a width of their own.
template <class Queries, class Keys, class Values>
void check_attention_widths(
    const char* function, const Queries& q, const Keys& k, const Values& v, index_t batch) {
  check_rows(function, "q", q);
  check_rows(function, "k", k);
  check_rows(function, "v", v);
  check_shape(function, "v", v, {k.extent(0), k.extent(1), v.extent(2)});
  check_shape(function, "k", k, {q.extent(0), k.extent(1), q.extent(2)});
  check(k.extent(1) > 0 && q.extent(1) % k.extent(1) == 0,
        function,
        ": ",
        q.extent(1),
        " query heads are not a multiple of ",
        k.extent(1),
        " key/value heads");
  check(batch > 0 && q.extent(0) % batch == 0,
        function,
        ": ",
        q.extent(0),
        " rows are not a multiple of batch ",
        batch);
}

template <class Queries, class Keys, class Values>
void check_attention(
    const char* function, const Queries& q, const Keys& k, const Values& v, index_t batch) {
  check_shape(function, "v", v, k.shape());
  check_attention_widths(function, q, k, v, batch);
}

/// Results of queries q [N, H, E] have the width of the values.
template <class Queries, class Values>
dims<3> attended_shape(const Queries& q, const Values& v) {
  return {q.extent(0), q.extent(1), v.extent(2)};
}

/// What attention_backward and its like are given.
template <class Dq, class Dk, class Heads, class Statistics>
void check_attention_backward(const char* function,
                              const Dq& dq,
                              const Dk& dk,
                              const Dk& dv,
                              const Heads& dout,
                              const Heads& q,
                              const Heads& k,
                              const Heads& v,
                              const Heads& out,
                              const Statistics& statistics,
                              index_t batch) {
  check_attention_widths(function, q, k, v, batch);
  check_shape(function, "dq", dq, q.shape());
  check_shape(function, "dk", dk, k.shape());
  check_shape(function, "dv", dv, v.shape());
  check_shape(function, "dout", dout, attended_shape(q, v));
  check_shape(function, "out", out, attended_shape(q, v));
  check_shape(function, "statistics", statistics, {q.extent(0), 2 * q.extent(1)});
  check_rows(function, "dq", dq);
  check_rows(function, "dk", dk);
  check_rows(function, "dv", dv);
  check_rows(function, "dout", dout);
  check_rows(function, "out", out);
  check_rows(function, "statistics", statistics);
}

/// The rows of a run, from row `first` of the pass on, have places in a cache of `capacity`
/// positions, and positions that follow from them.
template <class Positions>
void check_places(const char* function,
                  index_t capacity,
                  const Positions& positions,
                  const row_run& run,
                  index_t first) {
  for (index_t r = 0; r < run.rows; ++r) {
    const index_t parent = r == 0 || run.parents == nullptr ? r - 1 : run.parents[r];
    check(r == 0 || (parent >= 0 && parent < r),
          function,
          ": expected the parent of row ",
          r,
          " of a tree in [0, ",
          r,
          "), got ",
          parent);
    check(r == 0 || positions(first + r) == positions(first + parent) + 1,
          function,
          run.parents == nullptr ? ": positions of a run must be consecutive, expected "
                                 : ": positions of a tree must follow those of parents, expected ",
          positions(first + (std::max<index_t>)(parent, 0)) + 1,
          " in row ",
          first + r,
          ", got ",
          positions(first + r));
    const index_t place = positions(first) + r;
    check(place >= 0 && place < capacity,
          function,
          ": position ",
          place,
          " does not lie in a cache of ",
          capacity);
  }
}

/// Runs have `rows` rows in all and different slots of a cache, each at positions inside it.
template <class Cache, class Element, class Backend>
void check_runs(const char* function,
                const Cache& cache,
                index_t count,
                const vector_view<Element, Backend>& positions,
                std::span<const row_run> runs) {
  check_shape(function, "positions", positions, dims<1>{count});
  check_rows(function, "positions", positions);
  index_t rows = 0;
  for (std::size_t r = 0; r < runs.size(); ++r) {
    const index_t slot = runs[r].slot, own = runs[r].rows;
    const bool again = std::any_of(runs.begin(),
                                   runs.begin() + static_cast<std::ptrdiff_t>(r),
                                   [&](row_run run) { return run.slot == slot; });
    check(slot >= 0 && slot < cache.slots && !again,
          function,
          ": expected different slots in [0, ",
          cache.slots,
          "), got ",
          slot,
          " in run ",
          r);
    check(own >= 0 && own <= count - rows,
          function,
          ": expected runs of ",
          count,
          " rows in all, got one of ",
          own,
          " behind ",
          rows);
    check(runs[r].parents == nullptr || decodes_trees<Backend>,
          function,
          ": the backend takes no trees of drafts, got one as run ",
          r);
    if constexpr (backend_traits<Backend>::is_host_memory) {
      check_places(function, cache.capacity, positions, runs[r], rows);
    }
    rows += own;
  }
  check(rows == count, function, ": expected runs of ", count, " rows in all, got ", rows);
}

/// A cache fits heads k [M, G, E] of runs, each at positions inside it.
template <class Cache, class Heads, class Positions>
void check_cache(const char* function,
                 const Cache& cache,
                 const Heads& k,
                 const Positions& positions,
                 std::span<const row_run> runs) {
  check(cache.num_key_value_heads == k.extent(1) && cache.head_dim == k.extent(2),
        function,
        ": expected a cache of ",
        k.extent(1),
        " heads of width ",
        k.extent(2),
        ", got ",
        cache.num_key_value_heads,
        " of ",
        cache.head_dim);
  check_runs(function, cache, k.extent(0), positions, runs);
}

}  // namespace detail

/// out[t, h] = sum over s <= t of p[t, s] v[s, g],  p[t, .] = softmax over s <= t of (q[t, h] .
/// k[s, g]) / sqrt(E) with g = h / (H / G), for each of B sequences of T = N / B positions.
///
/// q [N, H, E], k, v [N, G, E], out [N, H, E], rows may be strided; statistics [N, 2H] receives per
/// row the maximum score of each head (columns 0..H-1) and the inverse of the sum of exponentials,
/// which backward reads, in accumulate_t of the elements. No T x T matrix is kept. Row-invariant;
/// on the CPU bit for bit what attention_cached_forward gives. Vaswani et al. 2017, eq. 1; Ainslie
/// et al. 2023 (arXiv 2305.13245). Throws mtp::error on wrong shapes.
template <scalar S, class Backend>
void attention_forward(context<Backend>& context,
                       view<S, dims<3>, Backend> out,
                       out_sums<S, Backend> statistics,
                       in_heads<S, Backend> q,
                       in_heads<S, Backend> k,
                       in_heads<S, Backend> v,
                       index_t batch) {
  detail::check_attention("attention_forward", q, k, v, batch);
  detail::check_shape("attention_forward", "out", out, q.shape());
  detail::check_shape(
      "attention_forward", "statistics", statistics, {q.extent(0), 2 * q.extent(1)});
  detail::check_rows("attention_forward", "out", out);
  detail::check_rows("attention_forward", "statistics", statistics);
  MTP_DISPATCH(attention_forward, context, out, statistics, q, k, v, batch);
}

/// The same with `scale`, a positive number, in place of 1 / sqrt(E), and with values v [N, G, V]
/// and out [N, H, V] of a width of their own.
template <scalar S, class Backend>
void attention_forward(context<Backend>& context,
                       view<S, dims<3>, Backend> out,
                       out_sums<S, Backend> statistics,
                       in_heads<S, Backend> q,
                       in_heads<S, Backend> k,
                       in_heads<S, Backend> v,
                       index_t batch,
                       double scale) {
  detail::check_attention_widths("attention_forward", q, k, v, batch);
  detail::check_shape("attention_forward", "out", out, detail::attended_shape(q, v));
  detail::check_shape(
      "attention_forward", "statistics", statistics, {q.extent(0), 2 * q.extent(1)});
  detail::check_rows("attention_forward", "out", out);
  detail::check_rows("attention_forward", "statistics", statistics);
  check(scale > 0, "attention_forward: expected a positive scale, got ", scale);
  MTP_DISPATCH(attention_forward, context, out, statistics, q, k, v, batch, scale);
}

/// Gradients of attention_forward: dq [N, H, E], dk, dv [N, G, E] are overwritten. Probabilities
/// are computed again from the statistics. dq, dk, dv must not overlap q, k, v. Throws mtp::error
/// on wrong shapes.
template <scalar S, class Backend>
void attention_backward(context<Backend>& context,
                        view<S, dims<3>, Backend> dq,
                        out_heads<S, Backend> dk,
                        out_heads<S, Backend> dv,
                        in_heads<S, Backend> dout,
                        in_heads<S, Backend> q,
                        in_heads<S, Backend> k,
                        in_heads<S, Backend> v,
                        in_heads<S, Backend> out,
                        in_sums<S, Backend> statistics,
                        index_t batch) {
  detail::check_attention("attention_backward", q, k, v, batch);
  detail::check_attention_backward(
      "attention_backward", dq, dk, dv, dout, q, k, v, out, statistics, batch);
  MTP_DISPATCH(attention_backward, context, dq, dk, dv, dout, q, k, v, out, statistics, batch);
}

/// Gradients of attention_forward with a scale: dv [N, G, V], dout, out [N, H, V].
template <scalar S, class Backend>
void attention_backward(context<Backend>& context,
                        view<S, dims<3>, Backend> dq,
                        out_heads<S, Backend> dk,
                        out_heads<S, Backend> dv,
                        in_heads<S, Backend> dout,
                        in_heads<S, Backend> q,
                        in_heads<S, Backend> k,
                        in_heads<S, Backend> v,
                        in_heads<S, Backend> out,
                        in_sums<S, Backend> statistics,
                        index_t batch,
                        double scale) {
  detail::check_attention_backward(
      "attention_backward", dq, dk, dv, dout, q, k, v, out, statistics, batch);
  check(scale > 0, "attention_backward: expected a positive scale, got ", scale);
  MTP_DISPATCH(
      attention_backward, context, dq, dk, dv, dout, q, k, v, out, statistics, batch, scale);
}

/// For each run, rows of one sequence: writes k, v [M, G, E] into the cache of its slot at the
/// rows' positions, then attends: out[m, h] as in attention_forward with t = positions[m], over all
/// positions s <= t of that slot.
///
/// Where a run is a tree of drafts, with the position b of its first row: row r is written at place
/// b + r of the cache, and positions[r] = b + its depth. It attends to what stands before b, then
/// to the rows on the path that leads to it, as if these stood alone at b, b + 1, ..: bit for bit
/// what a run of that path alone gives (mask and positions: Cai et al. 2024, arXiv 2401.10774,
/// section 2.3).
///
/// q, out [M, H, E]; positions [M] are consecutive in a run without branches, and those before a
/// run's first must have been written. Runs have M rows in all and different slots. Row-invariant:
/// M rows at once give bit for bit what M calls with one row give. Throws mtp::error on wrong
/// shapes and when the cache is full. Where the positions lie on a device, rows outside the cache
/// write nothing and give zeros.
template <scalar S, class Backend>
void attention_cached_forward(context<Backend>& context,
                              view<S, dims<3>, Backend> out,
                              cache_view<S, Backend> cache,
                              in_heads<S, Backend> q,
                              in_heads<S, Backend> k,
                              in_heads<S, Backend> v,
                              in_positions<Backend> positions,
                              std::type_identity_t<std::span<const row_run>> runs) {
  detail::check_attention("attention_cached_forward", q, k, v, 1);
  detail::check_shape("attention_cached_forward", "out", out, q.shape());
  detail::check_rows("attention_cached_forward", "out", out);
  detail::check_cache("attention_cached_forward", cache, k, positions, runs);
  MTP_DISPATCH(attention_cached_forward, context, out, cache, q, k, v, positions, runs);
}

/// The same with all rows in one run, of slot 0.
template <scalar S, class Backend>
void attention_cached_forward(context<Backend>& context,
                              view<S, dims<3>, Backend> out,
                              cache_view<S, Backend> cache,
                              in_heads<S, Backend> q,
                              in_heads<S, Backend> k,
                              in_heads<S, Backend> v,
                              in_positions<Backend> positions) {
  const row_run all{0, q.extent(0)};
  attention_cached_forward(context, out, cache, q, k, v, positions, {&all, 1});
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(attention_forward,
              as_dynamic_operand,
              "expected (context, out [N, H, E], statistics [N, 2H], q, k, v, batch), of one "
              "backend and element type, statistics of its accumulator type")
MTP_OPERATION(attention_backward,
              as_dynamic_operand,
              "expected (context, dq, dk, dv, dout, q, k, v, out, statistics [N, 2H], batch), of "
              "one backend and element type, statistics of its accumulator type")
MTP_OPERATION(attention_cached_forward,
              as_dynamic_operand,
              "expected (context, out [M, H, E], cache, q, k, v, positions [M], runs), of one "
              "backend and element type")
/// @endcond

}  // namespace mtp::inline MTP_ABI
