// Causal attention for any element type and any head width, without matrix instructions: what is
// readable, and what f64, f32 and uncommon widths take.
//
// A warp takes a query, or a key where gradients of keys and values are wanted, and goes through
// the others 32 at a time. Lanes are 32 positions while scores are computed, each of them a chain
// over the head's width, and elements of the head while rows are added up. So the order of every
// sum follows from positions alone, and no row is touched by what it does not see.
#pragma once

#include <cmath>
#include <cstddef>

#include "mtp/backend/cuda/attention_tile.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

inline constexpr int simple_warps = 4;
inline constexpr int simple_threads = simple_warps * warp_size;

/// Shared memory of a block: for each warp, `sums` sums and `lists` lists of 32 numbers.
template <class S>
constexpr std::size_t simple_shared_bytes(index_t sums, int lists) {
  return sizeof(accumulate_t<S>) * simple_warps *
         static_cast<std::size_t>(sums + lists * warp_size);
}

template <class S>
struct simple_attention_arguments {
  using A = accumulate_t<S>;
  head_array<const S> q, k, v;  // [N, H, E], [N, G, E], [N, G, V], or k, v of a cache
  head_array<S> out;            // [N, H, V]
  A* statistics = nullptr;      // [N, 2H] stride (statistics_row, 1); may be null
  index_t statistics_row = 0;
  const index_t* positions = nullptr;  // [N] in a cache; null: row t of a sequence stands at t
  const index_t* parents = nullptr;    // [N] in a cache, where the rows are a tree
  index_t N = 0, T = 0;                // rows, and rows of a sequence
  index_t capacity = 0;                // positions that k and v have
  index_t H = 0, G = 0, E = 0, V = 0;
  A scale = 0;  // 1/sqrt(E), or what is given
};

template <class S>
struct simple_attention_gradients {
  using A = accumulate_t<S>;
  head_array<S> dq, dk, dv;       // [N, H, E], [N, G, E], [N, G, V]
  head_array<const S> dout, out;  // [N, H, V]
  const A* statistics = nullptr;  // [N, 2H] stride (statistics_row, 1)
  index_t statistics_row = 0;
  A* means = nullptr;  // [N, H], dout . out: the query kernel tells the other one
};

/// a . b, one element after the other.
template <class A, class S>
__device__ __forceinline__ A chain(const S* a, const S* b, index_t count) {
  A sum = 0;
  for (index_t e = 0; e < count; ++e) {
    sum = std::fma(widen(a[e]), widen(b[e]), sum);
  }
  return sum;
}

/// Rows one behind the other.
struct rows_from {
  index_t first;

  __device__ __forceinline__ index_t operator()(int j) const { return first + j; }
};

/// sums[e] = sums[e] factor + sum over j < count of weights[j] x[place(j), h, e], by a warp. Lanes
/// need not wait between calls for the same elements.
template <class S, class Place>
__device__ __forceinline__ void add_rows(accumulate_t<S>* sums,           // [E]
                                         const accumulate_t<S>* weights,  // [32]
                                         const head_array<const S>& x,
                                         const Place& place,
                                         index_t h,
                                         int count,
                                         accumulate_t<S> factor,
                                         index_t head_dim) {
  for (index_t e = threadIdx.x % warp_size; e < head_dim; e += warp_size) {
    accumulate_t<S> sum = sums[e] * factor;
    for (int j = 0; j < count; ++j) {
      sum = std::fma(weights[j], widen(x.at(place(j), h)[e]), sum);
    }
    sums[e] = sum;
  }
}

template <class A>
__device__ __forceinline__ void clear_sums(A* sums, index_t count) {
  for (index_t e = threadIdx.x % warp_size; e < count; e += warp_size) {
    sums[e] = 0;
  }
}

/// Warp n H + h takes query row n of head h. What a row of a tree sees from the tree's beginning on
/// stands in the cache at the places of the rows that lead to it.
template <class S, bool Tree>
__global__ void __launch_bounds__(simple_threads)
    attention_simple_forward_kernel(const simple_attention_arguments<S> a) {
  using A = accumulate_t<S>;
  const int warp = static_cast<int>(threadIdx.x / warp_size);
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const index_t task = static_cast<index_t>(blockIdx.x) * simple_warps + warp;
  if (task >= a.N * a.H) {
    return;
  }
  const index_t n = task / a.H, h = task % a.H, g = h / (a.H / a.G);
  const index_t sequence = a.positions != nullptr ? 0 : n / a.T * a.T;
  const index_t position = a.positions != nullptr ? a.positions[n] : n - sequence;
  const index_t base = Tree ? a.positions[0] : 0;
  const bool outside = position < 0 || position >= a.capacity || (Tree && base + n >= a.capacity);
  const index_t count = outside ? 0 : position + 1;
  const auto place = [&](index_t seen) {
    if constexpr (Tree) {
      return seen < base ? seen : base + row_of_path(a.parents, n, position - seen);
    }
    return sequence + seen;
  };
  A* const sums = dynamic_shared<A>() + warp * (a.V + warp_size);  // [V]
  A* const weights = sums + a.V;                                   // [32]
  const A nothing = -static_cast<A>(__int_as_float(0x7f800000));
  clear_sums(sums, a.V);
  A largest = nothing, total = 0;
  for (index_t s = 0; s < count; s += warp_size) {
    const auto seen = static_cast<int>(min(count - s, index_t{warp_size}));
    A score = nothing;
    if (lane < seen) {
      score = chain<A>(a.q.at(n, h), a.k.at(place(s + lane), g), a.E) * a.scale;
    }
    const A before = largest;
    largest = maximum(largest, warp_max(score));
    const A shift = largest == nothing ? A(0) : largest;  // -inf - -inf would be NaN
    const A weight = lane < seen ? std::exp(score - shift) : A(0);
    const A factor = std::exp(before - shift);
    total = std::fma(total, factor, warp_sum(weight));
    weights[lane] = weight;
    __syncwarp();
    add_rows(
        sums, weights, a.v, [&](int j) { return place(s + j); }, g, seen, factor, a.V);
    __syncwarp();
  }
  const A inverse = A(1) / total;
  if (a.statistics != nullptr && lane == 0) {
    a.statistics[n * a.statistics_row + h] = largest;
    a.statistics[n * a.statistics_row + a.H + h] = inverse;
  }
  for (index_t e = lane; e < a.V; e += warp_size) {
    a.out.at(n, h)[e] = narrow<S>(outside ? A(0) : sums[e] * inverse);
  }
}

/// The probability of a key for a query, and the gradient of their score.
template <class S>
struct simple_pair {
  accumulate_t<S> probability, gradient;

  __device__ __forceinline__ simple_pair(const simple_attention_arguments<S>& a,
                                         const simple_attention_gradients<S>& d,
                                         accumulate_t<S> mean,
                                         index_t query,
                                         index_t h,
                                         index_t key,
                                         index_t g) {
    using A = accumulate_t<S>;
    const A* const statistics = d.statistics + query * d.statistics_row + h;
    const A score = chain<A>(a.q.at(query, h), a.k.at(key, g), a.E) * a.scale;
    probability = std::exp(score - statistics[0]) * statistics[a.H];
    gradient = probability * (chain<A>(d.dout.at(query, h), a.v.at(key, g), a.V) - mean) * a.scale;
  }
};

/// Warp n H + h takes query row n of head h: dq, and the mean of the gradients of its scores.
template <class S>
__global__ void __launch_bounds__(simple_threads)
    attention_simple_backward_query_kernel(const simple_attention_arguments<S> a,
                                           const simple_attention_gradients<S> d) {
  using A = accumulate_t<S>;
  const int warp = static_cast<int>(threadIdx.x / warp_size);
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const index_t task = static_cast<index_t>(blockIdx.x) * simple_warps + warp;
  if (task >= a.N * a.H) {
    return;
  }
  const index_t n = task / a.H, h = task % a.H, g = h / (a.H / a.G);
  const index_t sequence = n / a.T * a.T, count = n - sequence + 1;
  A* const sums = dynamic_shared<A>() + warp * (a.E + warp_size);  // [E]
  A* const gradients = sums + a.E;                                 // [32]
  A products = 0;
  for (index_t e = lane; e < a.V; e += warp_size) {
    products = std::fma(widen(d.dout.at(n, h)[e]), widen(d.out.at(n, h)[e]), products);
  }
  const A mean = warp_sum(products);
  if (lane == 0) {
    d.means[task] = mean;
  }
  clear_sums(sums, a.E);
  for (index_t s = 0; s < count; s += warp_size) {
    const auto seen = static_cast<int>(min(count - s, index_t{warp_size}));
    if (lane < seen) {
      gradients[lane] = simple_pair<S>(a, d, mean, n, h, sequence + s + lane, g).gradient;
    }
    __syncwarp();
    add_rows(sums, gradients, a.k, rows_from{sequence + s}, g, seen, A(1), a.E);
    __syncwarp();
  }
  for (index_t e = lane; e < a.E; e += warp_size) {
    d.dq.at(n, h)[e] = narrow<S>(sums[e]);
  }
}

/// Warp n G + g takes key row n of head g: dk and dv from all query heads of its group.
template <class S>
__global__ void __launch_bounds__(simple_threads)
    attention_simple_backward_key_kernel(const simple_attention_arguments<S> a,
                                         const simple_attention_gradients<S> d) {
  using A = accumulate_t<S>;
  const int warp = static_cast<int>(threadIdx.x / warp_size);
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const index_t task = static_cast<index_t>(blockIdx.x) * simple_warps + warp;
  if (task >= a.N * a.G) {
    return;
  }
  const index_t n = task / a.G, g = task % a.G, end = (n / a.T + 1) * a.T;
  A* const dk = dynamic_shared<A>() + warp * (a.E + a.V + 2 * warp_size);  // [E]
  A* const dv = dk + a.E;                                                  // [V]
  A* const probabilities = dv + a.V;                                       // [32]
  A* const gradients = probabilities + warp_size;                          // [32]
  clear_sums(dk, a.E);
  clear_sums(dv, a.V);
  for (index_t h = g * (a.H / a.G); h < (g + 1) * (a.H / a.G); ++h) {
    for (index_t query = n; query < end; query += warp_size) {
      const auto seen = static_cast<int>(min(end - query, index_t{warp_size}));
      if (lane < seen) {
        const A mean = d.means[(query + lane) * a.H + h];
        const simple_pair<S> pair(a, d, mean, query + lane, h, n, g);
        probabilities[lane] = pair.probability;
        gradients[lane] = pair.gradient;
      }
      __syncwarp();
      add_rows(dv, probabilities, d.dout, rows_from{query}, h, seen, A(1), a.V);
      add_rows(dk, gradients, a.q, rows_from{query}, h, seen, A(1), a.E);
      __syncwarp();
    }
  }
  for (index_t e = lane; e < a.E; e += warp_size) {
    d.dk.at(n, g)[e] = narrow<S>(dk[e]);
  }
  for (index_t e = lane; e < a.V; e += warp_size) {
    d.dv.at(n, g)[e] = narrow<S>(dv[e]);
  }
}

/// Writes new rows into a cache, k turned to its position where there is a table. A thread for each
/// element.
template <class S>
__global__ void __launch_bounds__(simple_threads)
    cache_write_kernel(head_array<S> keys,     // [capacity, G, E]
                       head_array<S> values,   // [capacity, G, E]
                       head_array<const S> k,  // [M, G, E]
                       head_array<const S> v,  // [M, G, E]
                       rotation_table<accumulate_t<S>> table,
                       const index_t* positions,  // [M]
                       bool is_tree,  // rows stand side by side, whatever their position
                       index_t capacity,
                       index_t M,
                       index_t G,
                       index_t E) {
  const index_t i = static_cast<index_t>(blockIdx.x) * simple_threads + threadIdx.x;
  if (i >= M * G * E) {
    return;
  }
  const index_t e = i % E, g = i / E % G, m = i / E / G, half = E / 2;
  const index_t position = positions[m];
  const index_t to = is_tree ? positions[0] + m : position;
  if (position < 0 || position >= capacity || to >= capacity) {
    return;
  }
  S key = k.at(m, g)[e];
  if (table.data != nullptr) {
    const accumulate_t<S>* const angles = table.at(position);
    accumulate_t<S> low = widen(k.at(m, g)[e % half]), high = widen(k.at(m, g)[e % half + half]);
    rotate_pair(low, high, angles[e % half], angles[half + e % half]);
    key = narrow<S>(e < half ? low : high);
  }
  keys.at(to, g)[e] = key;
  values.at(to, g)[e] = v.at(m, g)[e];
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
