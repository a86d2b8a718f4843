// Which kernels attention takes, with rotation or without.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include "mtp/backend/cuda/attention_matrices.cuh"
#include "mtp/backend/cuda/attention_simple.cuh"
#include "mtp/backend/cuda/invariant_rows.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/core/arena.hpp"
#include "mtp/core/cache_view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Widths of heads of bf16 that kernels with matrix instructions are made for: multiples of 16 up
/// to 128. All others take the simple kernels. A caller that knows the width names it alone, and
/// compiles these kernels once: ops::attention_forward<head_widths<64>>(context, ..).
template <int... Widths>
struct head_widths {
  /// Whether the width is one of these.
  static constexpr bool contains(index_t head_dim) { return ((head_dim == Widths) || ...); }
  /// body<E>() if the width is one of these. Returns whether it is.
  template <class Body>
  static bool dispatch(index_t head_dim, const Body& body) {
    return ((head_dim == Widths && (body.template operator()<Widths>(), true)) || ...);
  }
};
using common_head_widths = head_widths<16, 32, 64, 96, 128>;

/// The operations with and without rotation: a null table rotates nothing. `rotated` is q where it
/// is rotated in place. With a scale of their own, or values of another width than keys, they take
/// the simple kernels.
template <class Widths, scalar S>
class attention_launcher {
  using A = accumulate_t<S>;
  template <class Element>
  using heads = view<Element, dims<3>, cuda>;
  static constexpr bool has_matrices = element_traits<S>::has_matrix_kernels;

 public:
  attention_launcher(cuda_context& context,
                     const char* function,
                     const rotation_table<A>& table = {})
      : context_(context), function_(function), table_(table) {}
  attention_launcher(cuda_context& context, const char* function, double scale)
      : context_(context), function_(function), scale_(scale) {}

  void forward(heads<S> out,
               matrix_view<A, cuda> statistics,
               heads<const S> q,
               heads<S> rotated,
               heads<const S> k,
               heads<const S> v,
               index_t batch) const {
    if (q.empty()) {
      return;
    }
    if constexpr (has_matrices) {
      if (is_usual(q, v) && Widths::dispatch(q.extent(2), [&]<int E>() {
            matrices<E>().forward(out, statistics, q, rotated, k, v, batch);
          })) {
        return;
      }
    }
    const index_t T = q.extent(0) / batch;
    if (table_.data != nullptr) {
      rotate_rows(context_, function_, rotated, table_, nullptr, T, 0, A(1));
    }
    simple_attention_arguments<S> a = simple_arguments(q, k, v, T);
    a.out = head_array<S>(out);
    a.statistics = statistics.data();
    a.statistics_row = statistics.stride(0);
    launch_simple_forward(a);
  }

  void backward(heads<S> dq,
                heads<S> dk,
                heads<S> dv,
                heads<const S> dout,
                heads<const S> q,
                heads<const S> k,
                heads<const S> v,
                heads<const S> out,
                matrix_view<const A, cuda> statistics,
                index_t batch) const {
    if (q.empty()) {
      return;
    }
    if constexpr (has_matrices) {
      if (is_usual(q, v) && Widths::dispatch(q.extent(2), [&]<int E>() {
            matrices<E>().backward(dq, dk, dv, dout, q, k, v, out, statistics, batch);
          })) {
        return;
      }
    }
    const index_t N = q.extent(0), H = q.extent(1), G = k.extent(1), T = N / batch;
    const arena::scope scope(context_.workspace());
    simple_attention_arguments<S> a = simple_arguments(q, k, v, T);
    simple_attention_gradients<S> d;
    d.dq = head_array<S>(dq);
    d.dk = head_array<S>(dk);
    d.dv = head_array<S>(dv);
    d.dout = head_array<const S>(dout);
    d.out = head_array<const S>(out);
    d.statistics = statistics.data();
    d.statistics_row = statistics.stride(0);
    d.means = context_.workspace().template take<A>(N * H);  // [N, H]
    launch(context_,
           function_,
           simple_grid(N * H),
           dim3(simple_threads),
           simple_shared_bytes<S>(a.E, 1),
           attention_simple_backward_query_kernel<S>,
           a,
           d);
    launch(context_,
           function_,
           simple_grid(N * G),
           dim3(simple_threads),
           simple_shared_bytes<S>(a.E + a.V, 2),
           attention_simple_backward_key_kernel<S>,
           a,
           d);
    if (table_.data != nullptr) {
      rotate_rows(context_, function_, dq, table_, nullptr, T, 0, A(-1));
      rotate_rows(context_, function_, dk, table_, nullptr, T, 0, A(-1));
    }
  }

  void cached_forward(heads<S> out,
                      cache_view<S, cuda> cache,
                      heads<const S> q,
                      heads<S> rotated,
                      heads<const S> k,
                      heads<const S> v,
                      const index_t* positions,
                      std::span<const row_run> runs) const {
    index_t first = 0;
    while (!runs.empty()) {
      const std::size_t together = runs_of_a_launch(runs, q.extent(2));
      index_t rows = 0;
      for (const row_run& run : runs.first(together)) {
        rows += run.rows;
      }
      const auto own = [&](const auto& x) { return x.slice(0, first, rows); };
      if (together > 1) {
        decode_runs(
            own(out), cache, own(q), own(k), own(v), positions + first, runs.first(together));
      } else {
        run_cached(own(out),
                   cache.at(runs.front().slot),
                   own(q),
                   table_.data == nullptr ? rotated : own(rotated),
                   own(k),
                   own(v),
                   positions + first,
                   runs.front().parents);
      }
      first += rows;
      runs = runs.subspan(together);
    }
  }

 private:
  static cache_heads<S> heads_of(const cache_view<S, cuda>& cache) {
    const index_t E = cache.head_dim, head = cache.capacity * E;
    return {{cache.data, E, head},
            {cache.data + cache.num_key_value_heads * head, E, head},
            cache.capacity,
            cache.slot_stride};
  }

  /// How many of the first runs one launch takes: those of a few rows each, and no trees.
  static std::size_t runs_of_a_launch(std::span<const row_run> runs, index_t head_dim) {
    using policy = attention_decode_policy;
    std::size_t together = 0;
    if constexpr (has_matrices) {
      if (Widths::contains(head_dim)) {
        index_t rows = 0;
        while (together < runs.size() && runs[together].parents == nullptr &&
               runs[together].rows <= policy::max_rows &&
               rows + runs[together].rows <= policy::max_rows_of_all) {
          rows += runs[together++].rows;
        }
      }
    }
    return std::max<std::size_t>(together, 1);
  }

  /// Rows of several sequences.
  void decode_runs(heads<S> out,
                   const cache_view<S, cuda>& cache,
                   heads<const S> q,
                   heads<const S> k,
                   heads<const S> v,
                   const index_t* positions,
                   std::span<const row_run> runs) const {
    attention_decode_runs listed;
    int first = 0;
    for (const row_run& run : runs) {
      const auto rows = static_cast<int>(run.rows);
      if (rows > 0) {
        listed.add({first, rows, static_cast<int>(run.slot)});
      }
      first += rows;
    }
    if constexpr (has_matrices) {
      if (first > 0) {
        Widths::dispatch(q.extent(2), [&]<int Width>() {
          matrices<Width>().decode(out, heads_of(cache), q, k, v, positions, nullptr, listed);
        });
      }
    }
  }

  /// Rows of one sequence.
  void run_cached(heads<S> out,
                  cache_view<S, cuda> cache,
                  heads<const S> q,
                  heads<S> rotated,
                  heads<const S> k,
                  heads<const S> v,
                  const index_t* positions,
                  const index_t* parents) const {
    if (q.empty()) {
      return;
    }
    const index_t M = q.extent(0), G = k.extent(1), E = q.extent(2);
    const cache_heads<S> to = heads_of(cache);
    constexpr index_t most = attention_decode_policy::max_rows;
    check(parents == nullptr || M <= most,
          function_,
          ": expected a tree of at most ",
          most,
          " rows, got ",
          M);
    if (parents != nullptr) {  // each row is read from its own place, or from k and v
      write_cache(to, k, v, positions, true);
    }
    if constexpr (has_matrices) {
      // More rows go through the kernel for whole sequences.
      if (M <= invariant_rows && Widths::dispatch(E, [&]<int Width>() {
            in_pieces(M, most, [&](index_t first, index_t count) {
              attention_decode_runs alone;
              alone.add({0, static_cast<int>(count), 0});
              matrices<Width>().decode(out.slice(0, first, count),
                                       to,
                                       q.slice(0, first, count),
                                       k.slice(0, first, count),
                                       v.slice(0, first, count),
                                       positions + first,
                                       parents,
                                       alone);
            });
          })) {
        return;
      }
    }
    if (parents == nullptr) {
      write_cache(to, k, v, positions, false);
    }
    if constexpr (has_matrices) {
      if (Widths::dispatch(E, [&]<int Width>() {
            matrices<Width>().forward(out, to, q, rotated, G, positions);
          })) {
        return;
      }
    }
    if (table_.data != nullptr) {
      rotate_rows(context_, function_, rotated, table_, positions, M, 0, A(1));
    }
    simple_attention_arguments<S> a = simple_arguments(q, k, v, M);
    a.k = {to.keys.data, to.keys.row, to.keys.head};
    a.v = {to.values.data, to.values.row, to.values.head};
    a.out = head_array<S>(out);
    a.positions = positions;
    a.parents = parents;
    a.capacity = cache.capacity;
    launch_simple_forward(a);
  }

  /// New rows at their positions in a cache, those of a tree side by side.
  void write_cache(const cache_heads<S>& to,
                   heads<const S> k,
                   heads<const S> v,
                   const index_t* positions,
                   bool is_tree) const {
    const index_t M = k.extent(0), G = k.extent(1), E = k.extent(2);
    launch(context_,
           function_,
           dim3(extent_of(ceil_div(M * G * E, simple_threads), function_)),
           dim3(simple_threads),
           0,
           cache_write_kernel<S>,
           to.keys,
           to.values,
           head_array<const S>(k),
           head_array<const S>(v),
           table_,
           positions,
           is_tree,
           to.capacity,
           M,
           G,
           E);
  }

  template <int E>
  matrix_attention<E> matrices() const {
    return {context_, function_, table_};
  }

  dim3 simple_grid(index_t tasks) const {
    return dim3(extent_of(ceil_div(tasks, simple_warps), function_));
  }

  static double usual_scale(index_t head_dim) {
    return 1.0 / std::sqrt(static_cast<double>(head_dim));
  }
  /// Whether the kernels with matrix instructions compute this scale and these widths.
  bool is_usual(const heads<const S>& q, const heads<const S>& v) const {
    return q.extent(2) == v.extent(2) && (scale_ == 0 || scale_ == usual_scale(q.extent(2)));
  }

  simple_attention_arguments<S> simple_arguments(heads<const S> q,
                                                 heads<const S> k,
                                                 heads<const S> v,
                                                 index_t T) const {
    simple_attention_arguments<S> a;
    a.q = head_array<const S>(q);
    a.k = head_array<const S>(k);
    a.v = head_array<const S>(v);
    a.N = q.extent(0);
    a.T = a.capacity = T;
    a.H = q.extent(1);
    a.G = k.extent(1);
    a.E = q.extent(2);
    a.V = v.extent(2);
    a.scale = static_cast<A>(scale_ > 0 ? scale_ : usual_scale(a.E));
    return a;
  }

  void launch_simple_forward(const simple_attention_arguments<S>& a) const {
    launch(context_,
           function_,
           simple_grid(a.N * a.H),
           dim3(simple_threads),
           simple_shared_bytes<S>(a.V, 1),
           a.parents == nullptr ? attention_simple_forward_kernel<S, false>
                                : attention_simple_forward_kernel<S, true>,
           a);
  }

  cuda_context& context_;
  const char* function_;
  rotation_table<A> table_{};
  double scale_ = 0;  // 0: the usual one
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
