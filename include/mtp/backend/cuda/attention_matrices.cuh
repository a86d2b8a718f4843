// Launches of the attention kernels with matrix instructions, for heads of bf16 of one width.
#pragma once

#include <cmath>
#include <limits>

#include "mtp/backend/cuda/attention_backward.cuh"
#include "mtp/backend/cuda/attention_combine.cuh"
#include "mtp/backend/cuda/attention_decode.cuh"
#include "mtp/backend/cuda/attention_forward.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/core/arena.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Keys and values of a cache, [capacity, G, E] each, in its first slot; others are strides further
/// on.
template <class S>
struct cache_heads {
  head_array<S> keys, values;
  index_t capacity;
  index_t slot_stride = 0;
};

template <int E>
class matrix_attention {
  template <class Element>
  using heads = view<Element, dims<3>, cuda>;

 public:
  matrix_attention(cuda_context& context, const char* function, const rotation_table<float>& table)
      : context_(context), function_(function), table_(table) {}

  void forward(heads<bf16> out,
               matrix_view<float, cuda> statistics,
               heads<const bf16> q,
               heads<bf16> rotated,
               heads<const bf16> k,
               heads<const bf16> v,
               index_t batch) const {
    attention_forward_arguments a = forward_arguments(out, q, rotated, q.extent(0) / batch);
    a.k = head_array<const bf16>(k);
    a.v = head_array<const bf16>(v);
    a.statistics = statistics.data();
    a.statistics_row = statistics.stride(0);
    a.capacity = a.T;
    a.G = static_cast<int>(k.extent(1));
    a.packed = packed(out, q, k, v);
    launch_forward(a, batch);
  }

  /// Rows that continue a cache whose keys and values have been written.
  void forward(heads<bf16> out,
               const cache_heads<bf16>& cache,
               heads<const bf16> q,
               heads<bf16> rotated,
               index_t G,
               const index_t* positions) const {
    attention_forward_arguments a = forward_arguments(out, q, rotated, q.extent(0));
    a.k = constant(cache.keys);
    a.v = constant(cache.values);
    a.positions = positions;
    a.capacity = positions_of(cache.capacity);
    a.G = static_cast<int>(G);
    a.packed = packed(out, q) && in_packs(cache.keys.data, E, E);
    launch_forward(a, 1);
  }

  /// A few rows of some sequences, or of one as a tree; they are written into the cache.
  void decode(heads<bf16> out,
              const cache_heads<bf16>& cache,
              heads<const bf16> q,
              heads<const bf16> k,
              heads<const bf16> v,
              const index_t* positions,
              const index_t* parents,
              const attention_decode_runs& runs) const {
    using policy = attention_decode_policy;
    const index_t M = q.extent(0), H = q.extent(1), G = k.extent(1);
    const index_t splits = policy::splits(cache.capacity);
    const arena::scope scope(context_.workspace());
    attention_decode_arguments a;
    a.q = head_array<const bf16>(q);
    a.k = head_array<const bf16>(k);
    a.v = head_array<const bf16>(v);
    a.keys = cache.keys;
    a.values = cache.values;
    a.slot_stride = cache.slot_stride;
    a.out = head_array<bf16>(out);
    a.sums = context_.workspace().take<float>(splits * M * H * E);  // [splits, M, H, E]
    a.terms = context_.workspace().take<float2>(splits * M * H);    // [splits, M, H]
    a.table = table_;
    a.positions = positions;
    a.parents = parents;
    a.M = static_cast<int>(M);
    a.H = static_cast<int>(H);
    a.G = static_cast<int>(G);
    a.E = E;
    a.capacity = positions_of(cache.capacity);
    a.exponent_scale = scale() * log2_of_e;
    a.packed = packed(out, q, k, v) && in_packs(cache.keys.data, E, E);
    int last_slot = 0;
    for (int r = 0; r < runs.count; ++r) {
      last_slot = std::max(last_slot, runs.run[r].slot);
    }
    const overlap written{
        .written = {{cache.keys.data,
                     cache.values.data + G * cache.capacity * E + last_slot * cache.slot_stride},
                    {a.sums, a.sums + splits * M * H * E},
                    {a.terms, a.terms + splits * M * H}}};
    dim3 blocks =
        grid(G, policy::blocks(cache.capacity, G * runs.count, context_.multiprocessors()));
    if (parents == nullptr) {
      blocks.z = static_cast<unsigned>(runs.count);
      launch_overlapped(context_,
                        function_,
                        written,
                        blocks,
                        dim3(policy::threads),
                        policy::shared_bytes<E>(),
                        attention_decode_kernel<E>,
                        a,
                        runs);
    } else {
      blocks.z = static_cast<unsigned>(M);
      launch_overlapped(context_,
                        function_,
                        written,
                        blocks,
                        dim3(policy::threads),
                        policy::shared_bytes<E>(),
                        attention_decode_tree_kernel<E>,
                        a);
    }
    launch_overlapped(context_,
                      function_,
                      {.written = {range_of(out), {}}},
                      grid(H, M),
                      dim3(policy::threads),
                      policy::combine_shared_bytes,
                      attention_combine_kernel<bf16>,
                      a);
  }

  void backward(heads<bf16> dq,
                heads<bf16> dk,
                heads<bf16> dv,
                heads<const bf16> dout,
                heads<const bf16> q,
                heads<const bf16> k,
                heads<const bf16> v,
                heads<const bf16> out,
                matrix_view<const float, cuda> statistics,
                index_t batch) const {
    using policy = attention_backward_policy<E>;
    const index_t N = q.extent(0), H = q.extent(1), G = k.extent(1);
    const arena::scope scope(context_.workspace());
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
    a.terms = context_.workspace().take<float2>(N * H);  // [H, N]
    a.table = table_;
    a.N = N;
    a.T = positions_of(N / batch);
    a.H = static_cast<int>(H);
    a.G = static_cast<int>(G);
    a.scale = scale();
    a.exponent_scale = a.scale * log2_of_e;
    a.packed = packed(dq, dk, dv, dout, q, k, v, out);
    launch(context_,
           function_,
           grid(batch, H, ceil_div(a.T, policy::query_rows)),
           dim3(policy::threads),
           policy::query_shared_bytes,
           attention_backward_query_kernel<E>,
           a);
    launch(context_,
           function_,
           grid(batch, G, ceil_div(a.T, policy::key_rows)),
           dim3(policy::threads),
           policy::key_shared_bytes,
           attention_backward_key_kernel<E>,
           a);
  }

 private:
  static float scale() { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(E))); }

  static head_array<const bf16> constant(const head_array<bf16>& x) {
    return {x.data, x.row, x.head};
  }

  int positions_of(index_t count) const {
    check(count <= std::numeric_limits<int>::max() / 2,
          function_,
          ": ",
          count,
          " positions are more than an int can count in kernels");
    return static_cast<int>(count);
  }

  dim3 grid(index_t x, index_t y, index_t z = 1) const {
    return dim3(extent_of(x, function_), extent_of(y, function_), extent_of(z, function_));
  }

  /// Whether all rows of heads, and of the table, begin at multiples of 16 bytes.
  template <class... Views>
  bool packed(const Views&... views) const {
    constexpr index_t W = pack<bf16>::width;
    return ((in_packs(views.data(), views.stride(0), E) &&
             (views.extent(1) == 1 || views.stride(1) % W == 0)) &&
            ...) &&
           in_packs(table_.data, table_.row, E);
  }

  attention_forward_arguments forward_arguments(heads<bf16> out,
                                                heads<const bf16> q,
                                                heads<bf16> rotated,
                                                index_t T) const {
    attention_forward_arguments a;
    a.q = head_array<const bf16>(q);
    a.rotated = head_array<bf16>(rotated);
    a.out = head_array<bf16>(out);
    a.table = table_;
    a.T = positions_of(T);
    a.H = static_cast<int>(q.extent(1));
    a.scale = scale();
    a.exponent_scale = a.scale * log2_of_e;
    return a;
  }

  void launch_forward(const attention_forward_arguments& a, index_t batch) const {
    using policy = attention_forward_policy;
    launch(context_,
           function_,
           grid(batch, a.H, ceil_div(a.T, policy::rows)),
           dim3(policy::threads),
           policy::shared_bytes<E>(),
           attention_forward_kernel<E>,
           a);
  }

  cuda_context& context_;
  const char* function_;
  rotation_table<float> table_;
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
