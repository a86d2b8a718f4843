// Which kernels attention takes, with what arguments.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "mtp/backend/cuda/attention_backward.cuh"
#include "mtp/backend/cuda/attention_decode.cuh"
#include "mtp/backend/cuda/attention_forward.cuh"
#include "mtp/backend/cuda/attention_simple.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/core/arena.hpp"
#include "mtp/core/cache_view.hpp"

namespace mtp::cuda_detail {

/// Widths of heads of bf16 that kernels with matrix instructions are made for: multiples of 16 up
/// to 128. All others take the simple kernels. Whoever knows the width names it alone and compiles
/// these kernels once: ops::template attention_forward<head_widths<64>>(context, ..).
template <int... Widths>
struct head_widths {
  /// body<E>() if the width is one of these. Returns whether it is.
  template <scalar S, class Body>
  static bool dispatch(index_t head_dim, const Body& body) {
    if constexpr (std::is_same_v<S, bf16>) {
      return ((head_dim == Widths && (body.template operator()<Widths>(), true)) || ...);
    } else {
      return false;
    }
  }
};
using common_head_widths = head_widths<16, 32, 64, 96, 128>;

/// The operations with and without rotation: a null table rotates nothing.
template <class Widths, scalar S>
class attention_launcher {
  using A = accumulate_t<S>;
  template <class Element>
  using heads = view<Element, dims<3>, cuda>;
  using table_type = rotation_table<A>;

 public:
  attention_launcher(cuda_context& context, const char* function, const table_type& table)
      : context_(context), function_(function), table_(table) {}

  /// `rotated` is q where it is rotated in place.
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
    const index_t N = q.extent(0), T = N / batch;
    const bool matrices = Widths::template dispatch<S>(q.extent(2), [&]<int E>() {
      attention_forward_arguments a = forward_arguments(out, q, rotated);
      a.k = head_array<const bf16>(k);
      a.v = head_array<const bf16>(v);
      a.statistics = statistics.data();
      a.statistics_row = statistics.stride(0);
      a.T = positions_of(T);
      a.capacity = a.T;
      a.G = static_cast<int>(k.extent(1));
      a.packed = packed(out, q, k, v);
      launch_forward<E>(a, batch);
    });
    if (!matrices) {
      if (table_.data != nullptr) {
        rotate_rows(context_, function_, rotated, table_, nullptr, T, 0, A(1));
      }
      simple_attention_arguments<S> a = simple_arguments(q, k, v, T);
      a.out = head_array<S>(out);
      a.statistics = statistics.data();
      a.statistics_row = statistics.stride(0);
      launch_simple_forward(a);
    }
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
    const index_t N = q.extent(0), H = q.extent(1), G = k.extent(1), T = N / batch;
    const arena::scope scope(context_.workspace());
    const bool matrices = Widths::template dispatch<S>(q.extent(2), [&]<int E>() {
      using policy = attention_backward_policy<E>;
      attention_backward_arguments a;
      a.dq = head_array<bf16>(dq);
      a.dk = head_array<bf16>(dk);
      a.dv = head_array<bf16>(dv);
      a.dout = head_array<const bf16>(dout);
      a.q = head_array<const bf16>(q);
      a.k = head_array<const bf16>(k);
      a.v = head_array<const bf16>(v);
      a.out = head_array<const bf16>(out);
      a.statistics = statistics.data();
      a.statistics_row = statistics.stride(0);
      a.terms = context_.workspace().template take<float2>(N * H);  // [H, N]
      a.table = table_;
      a.N = N;
      a.T = positions_of(T);
      a.H = static_cast<int>(H);
      a.G = static_cast<int>(G);
      a.scale = scale_of(E);
      a.exponent_scale = a.scale * log2_of_e;
      a.packed = packed(dq, dk, dv, dout, q, k, v, out);
      launch(context_,
             function_,
             grid(batch, H, ceil_div(T, policy::query_rows)),
             dim3(policy::threads),
             policy::query_shared_bytes,
             attention_backward_query_kernel<E>,
             a);
      launch(context_,
             function_,
             grid(batch, G, ceil_div(T, policy::key_rows)),
             dim3(policy::threads),
             policy::key_shared_bytes,
             attention_backward_key_kernel<E>,
             a);
    });
    if (!matrices) {
      simple_attention_arguments<S> a = simple_arguments(q, k, v, T);
      a.statistics = const_cast<A*>(statistics.data());
      a.statistics_row = statistics.stride(0);
      simple_attention_gradients<S> d;
      d.dq = head_array<S>(dq);
      d.dk = head_array<S>(dk);
      d.dv = head_array<S>(dv);
      d.dout = head_array<const S>(dout);
      d.out = head_array<const S>(out);
      d.means = context_.workspace().template take<A>(N * H);  // [N, H]
      launch(context_,
             function_,
             simple_grid(N * H),
             dim3(simple_threads),
             simple_shared_bytes<S>(a.E, 1, 1),
             attention_simple_backward_query_kernel<S>,
             a,
             d);
      launch(context_,
             function_,
             simple_grid(N * G),
             dim3(simple_threads),
             simple_shared_bytes<S>(a.E, 2, 2),
             attention_simple_backward_key_kernel<S>,
             a,
             d);
      if (table_.data != nullptr) {
        rotate_rows(context_, function_, dq, table_, nullptr, T, 0, A(-1));
        rotate_rows(context_, function_, dk, table_, nullptr, T, 0, A(-1));
      }
    }
  }

  void cached_forward(heads<S> out,
                      cache_view<S, cuda> cache,
                      heads<const S> q,
                      heads<S> rotated,
                      heads<const S> k,
                      heads<const S> v,
                      const index_t* positions) const {
    if (q.empty()) {
      return;
    }
    const index_t M = q.extent(0), G = k.extent(1), E = q.extent(2), capacity = cache.capacity;
    const head_array<S> keys(cache.data, E, capacity * E);
    const head_array<S> values(cache.data + G * capacity * E, E, capacity * E);
    if (M <= attention_decode_policy::max_rows && Widths::template dispatch<S>(E, [&]<int Width>() {
          launch_decode<Width>(out, keys, values, q, k, v, positions, capacity);
        })) {
      return;
    }
    launch(context_,
           function_,
           dim3(extent_of(ceil_div(M * G * E, simple_threads), function_)),
           dim3(simple_threads),
           0,
           cache_write_kernel<S>,
           keys,
           values,
           head_array<const S>(k),
           head_array<const S>(v),
           table_,
           positions,
           capacity,
           M,
           G,
           E);
    const bool matrices = Widths::template dispatch<S>(E, [&]<int Width>() {
      attention_forward_arguments a = forward_arguments(out, q, rotated);
      a.k = constant(keys);
      a.v = constant(values);
      a.positions = positions;
      a.T = positions_of(M);
      a.capacity = positions_of(capacity);
      a.G = static_cast<int>(G);
      a.packed = packed(out, q) && in_packs(cache.data, E, E);
      launch_forward<Width>(a, 1);
    });
    if (!matrices) {
      if (table_.data != nullptr) {
        rotate_rows(context_, function_, rotated, table_, positions, M, 0, A(1));
      }
      simple_attention_arguments<S> a = simple_arguments(q, k, v, M);
      a.k = constant(keys);
      a.v = constant(values);
      a.out = head_array<S>(out);
      a.positions = positions;
      a.capacity = capacity;
      launch_simple_forward(a);
    }
  }

 private:
  static A scale_of(index_t head_dim) {
    return static_cast<A>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  }

  static head_array<const S> constant(const head_array<S>& x) { return {x.data, x.row, x.head}; }

  int positions_of(index_t count) const {
    check(count <= std::numeric_limits<int>::max() / 2,
          function_,
          ": ",
          count,
          " positions are more than kernels count");
    return static_cast<int>(count);
  }

  static dim3 grid(index_t batch, index_t count, index_t blocks) {
    return dim3(extent_of(batch, "attention"),
                extent_of(count, "attention"),
                extent_of(blocks, "attention"));
  }
  static dim3 simple_grid(index_t tasks) {
    return dim3(extent_of(ceil_div(tasks, simple_warps), "attention"));
  }

  /// Whether all rows of heads, and of the table, begin at multiples of 16 bytes.
  template <class... Views>
  bool packed(const Views&... views) const {
    constexpr index_t W = pack<S>::width;
    return ((in_packs(views.data(), views.stride(0), views.extent(2)) &&
             (views.extent(1) == 1 || views.stride(1) % W == 0)) &&
            ...) &&
           in_packs(table_.data, table_.row, index_t{W});
  }

  attention_forward_arguments forward_arguments(heads<S> out,
                                                heads<const S> q,
                                                heads<S> rotated) const {
    attention_forward_arguments a;
    a.q = head_array<const bf16>(q);
    a.rotated = head_array<bf16>(rotated);
    a.out = head_array<bf16>(out);
    a.table = table_;
    a.H = static_cast<int>(q.extent(1));
    a.scale = scale_of(q.extent(2));
    a.exponent_scale = a.scale * log2_of_e;
    return a;
  }

  template <int E>
  void launch_forward(const attention_forward_arguments& a, index_t batch) const {
    using policy = attention_forward_policy;
    launch(context_,
           function_,
           grid(batch, a.H, ceil_div(a.T, policy::rows)),
           dim3(policy::threads),
           policy::template shared_bytes<E>(),
           attention_forward_kernel<E>,
           a);
  }

  template <int E>
  void launch_decode(heads<S> out,
                     const head_array<S>& keys,
                     const head_array<S>& values,
                     heads<const S> q,
                     heads<const S> k,
                     heads<const S> v,
                     const index_t* positions,
                     index_t capacity) const {
    using policy = attention_decode_policy;
    const index_t M = q.extent(0), H = q.extent(1), G = k.extent(1);
    const index_t splits = policy::splits(capacity);
    const arena::scope scope(context_.workspace());
    attention_decode_arguments a;
    a.q = head_array<const bf16>(q);
    a.k = head_array<const bf16>(k);
    a.v = head_array<const bf16>(v);
    a.keys = keys;
    a.values = values;
    a.out = head_array<bf16>(out);
    a.sums = context_.workspace().template take<float>(splits * M * H * E);  // [splits, M, H, E]
    a.terms = context_.workspace().template take<float2>(splits * M * H);    // [splits, M, H]
    a.table = table_;
    a.positions = positions;
    a.M = static_cast<int>(M);
    a.H = static_cast<int>(H);
    a.G = static_cast<int>(G);
    a.E = E;
    a.capacity = positions_of(capacity);
    a.exponent_scale = scale_of(E) * log2_of_e;
    a.packed = packed(out, q, k, v) && in_packs(keys.data, E, E);
    launch(context_,
           function_,
           dim3(extent_of(G, function_), extent_of(splits, function_)),
           dim3(policy::threads),
           policy::template shared_bytes<E>(),
           attention_decode_kernel<E>,
           a);
    launch(context_,
           function_,
           dim3(extent_of(H, function_), extent_of(M, function_)),
           dim3(policy::threads),
           policy::combine_shared_bytes,
           attention_combine_kernel<S>,
           a);
  }

  static simple_attention_arguments<S> simple_arguments(heads<const S> q,
                                                        heads<const S> k,
                                                        heads<const S> v,
                                                        index_t T) {
    simple_attention_arguments<S> a;
    a.q = head_array<const S>(q);
    a.k = head_array<const S>(k);
    a.v = head_array<const S>(v);
    a.N = q.extent(0);
    a.T = a.capacity = T;
    a.H = q.extent(1);
    a.G = k.extent(1);
    a.E = q.extent(2);
    a.scale = scale_of(a.E);
    return a;
  }

  void launch_simple_forward(const simple_attention_arguments<S>& a) const {
    launch(context_,
           function_,
           simple_grid(a.N * a.H),
           dim3(simple_threads),
           simple_shared_bytes<S>(a.E, 1, 1),
           attention_simple_forward_kernel<S>,
           a);
  }

  cuda_context& context_;
  const char* function_;
  table_type table_;
};

}  // namespace mtp::cuda_detail
