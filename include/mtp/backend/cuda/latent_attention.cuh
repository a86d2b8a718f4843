// Attention over latents on the GPU. Contracts: ops/latent_attention.hpp.
//
// A block takes a row and several of its heads, a warp each, and reads the rows that they see once
// for all of them, tile by tile, into shared memory. Lanes are positions while scores are computed,
// each of them a chain over a row, and elements of the output while rows are added up. The borders
// of tiles follow from widths alone, so the order of every sum follows from positions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include "mtp/backend/cuda/attention_tile.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/core/cache_view.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

struct latent_policy {
  static constexpr int warps = 8;  // heads of a block
  static constexpr int threads = warps * warp_size;

  /// Elements from one row of a tile to the next: an odd number of words, so that lanes that read
  /// the same element of different rows meet in no bank.
  template <class S>
  static constexpr index_t stride(index_t width) {
    constexpr index_t elements = sizeof(S) < 4 ? 4 / static_cast<index_t>(sizeof(S)) : 1;
    const index_t words = ceil_div(width, elements);
    return (words % 2 == 0 ? words + 1 : words) * elements;
  }
  template <class S>
  static constexpr std::size_t shared_bytes(index_t width, index_t value_width, index_t positions) {
    using A = accumulate_t<S>;
    return static_cast<std::size_t>(warps * (value_width + warp_size)) * sizeof(A) +
           static_cast<std::size_t>(positions * stride<S>(width)) * sizeof(S);
  }
  /// Positions of a tile: as many as lanes, or fewer where rows are so wide that a block of any
  /// device would not hold them.
  template <class S>
  static constexpr int positions(index_t width, index_t value_width) {
    int count = warp_size;
    while (count > 1 && shared_bytes<S>(width, value_width, count) > common_shared_bytes) {
      count /= 2;
    }
    return count;
  }
};

template <class S>
struct latent_attention_arguments {
  head_array<const S> q;               // [M, H, W]
  head_array<S> out;                   // [M, H, R]
  const S* cache = nullptr;            // [capacity, W]
  const index_t* positions = nullptr;  // [M]
  const index_t* parents = nullptr;    // [M], where the rows are a tree
  index_t capacity = 0;
  index_t H = 0, W = 0, R = 0;
  index_t stride = 0;  // of rows of a tile
  int tile = 0;        // positions of a tile
  accumulate_t<S> scale = 0;
};

/// Block (x, m) takes row m and heads [x warps, (x + 1) warps).
template <class S, bool Tree>
__global__ void __launch_bounds__(latent_policy::threads)
    latent_attention_kernel(const latent_attention_arguments<S> a) {
  using A = accumulate_t<S>;
  const int warp = static_cast<int>(threadIdx.x / warp_size);
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const index_t m = blockIdx.y, h = static_cast<index_t>(blockIdx.x) * latent_policy::warps + warp;
  const index_t position = a.positions[m], base = Tree ? a.positions[0] : 0;
  const bool outside = position < 0 || position >= a.capacity || (Tree && base + m >= a.capacity);
  const index_t count = outside ? 0 : position + 1;
  A* const sums = dynamic_shared<A>() + warp * (a.R + warp_size);  // [R]
  A* const weights = sums + a.R;                                   // [32]
  S* const tile = reinterpret_cast<S*>(dynamic_shared<A>() +
                                       latent_policy::warps * (a.R + warp_size));  // [tile, W]
  const A nothing = -static_cast<A>(__int_as_float(0x7f800000));
  for (index_t e = lane; e < a.R; e += warp_size) {
    sums[e] = 0;
  }
  A largest = nothing, total = 0;
  for (index_t s = 0; s < count; s += a.tile) {
    const auto seen = static_cast<int>(min(count - s, static_cast<index_t>(a.tile)));
    __syncthreads();  // the tile before has been read
    for (int j = warp; j < seen; j += latent_policy::warps) {
      index_t place = s + j;
      if constexpr (Tree) {
        place = place < base ? place : base + row_of_path(a.parents, m, position - place);
      }
      for (index_t e = lane; e < a.W; e += warp_size) {
        tile[j * a.stride + e] = a.cache[place * a.W + e];
      }
    }
    __syncthreads();
    if (h >= a.H) {
      continue;  // there are more warps than heads
    }
    A score = nothing;
    if (lane < seen) {
      const S* const query = a.q.at(m, h);
      A sum = 0;
      for (index_t e = 0; e < a.W; ++e) {
        sum = std::fma(widen(query[e]), widen(tile[lane * a.stride + e]), sum);
      }
      score = sum * a.scale;
    }
    const A before = largest;
    largest = maximum(largest, warp_max(score));
    const A shift = largest == nothing ? A(0) : largest;  // -inf - -inf would be NaN
    const A weight = lane < seen ? std::exp(score - shift) : A(0);
    const A factor = std::exp(before - shift);
    total = std::fma(total, factor, warp_sum(weight));
    weights[lane] = weight;
    __syncwarp();
    for (index_t e = lane; e < a.R; e += warp_size) {
      A sum = sums[e] * factor;
      for (int j = 0; j < seen; ++j) {
        sum = std::fma(weights[j], widen(tile[j * a.stride + e]), sum);
      }
      sums[e] = sum;
    }
    __syncwarp();
  }
  if (h >= a.H) {
    return;
  }
  const A inverse = A(1) / total;
  for (index_t e = lane; e < a.R; e += warp_size) {
    a.out.at(m, h)[e] = narrow<S>(outside ? A(0) : sums[e] * inverse);
  }
}

/// Writes new rows into a cache, those of a tree side by side. A thread for each element.
template <class S>
__global__ void __launch_bounds__(latent_policy::threads)
    latent_write_kernel(S* cache,         // [capacity, W]
                        const S* latent,  // [M, W] stride (row, 1)
                        index_t row,
                        const index_t* positions,  // [M]
                        bool is_tree,
                        index_t capacity,
                        index_t M,
                        index_t W) {
  const index_t i = static_cast<index_t>(blockIdx.x) * latent_policy::threads + threadIdx.x;
  if (i >= M * W) {
    return;
  }
  const index_t m = i / W, e = i % W, position = positions[m];
  const index_t to = is_tree ? positions[0] + m : position;
  if (position >= 0 && position < capacity && to >= 0 && to < capacity) {
    cache[to * W + e] = latent[m * row + e];
  }
}

struct cuda_latent_attention_ops {
  template <class S>
  using heads = view<S, dims<3>, cuda>;

  /// The most bytes of workspace that these operations need: none.
  template <scalar S>
  static constexpr index_t latent_attention_workspace(index_t, index_t, index_t, index_t, index_t) {
    return 0;
  }

  template <scalar S>
  static void latent_attention_cached_forward(cuda_context& context,
                                              heads<S> out,
                                              latent_cache_view<S, cuda> cache,
                                              heads<const S> q,
                                              matrix_view<const S, cuda> latent,
                                              double scale,
                                              vector_view<const index_t, cuda> positions,
                                              std::span<const row_run> runs) {
    const char* const name = "latent_attention_cached_forward";
    latent_attention_arguments<S> a;
    a.capacity = cache.capacity;
    a.H = q.extent(1);
    a.W = q.extent(2);
    a.R = out.extent(2);
    a.stride = latent_policy::stride<S>(a.W);
    a.tile = latent_policy::positions<S>(a.W, a.R);
    a.scale = static_cast<accumulate_t<S>>(scale);
    index_t first = 0;
    for (const row_run& run : runs) {
      const index_t M = run.rows;
      const auto own = [&](const auto& x) { return x.slice(0, first, M); };
      a.q = head_array<const S>(own(q));
      a.out = head_array<S>(own(out));
      a.cache = cache.at(run.slot).data;
      a.positions = positions.data() + first;
      a.parents = run.parents;
      launch(context,
             name,
             dim3(extent_of(ceil_div(M * a.W, policy::threads), name)),
             dim3(policy::threads),
             0,
             latent_write_kernel<S>,
             cache.at(run.slot).data,
             own(latent).data(),
             latent.stride(0),
             a.positions,
             run.parents != nullptr,
             a.capacity,
             M,
             a.W);
      launch(context,
             name,
             dim3(extent_of(ceil_div(a.R == 0 ? 0 : a.H, policy::warps), name), extent_of(M, name)),
             dim3(policy::threads),
             policy::shared_bytes<S>(a.W, a.R, a.tile),
             run.parents == nullptr ? latent_attention_kernel<S, false>
                                    : latent_attention_kernel<S, true>,
             a);
      first += M;
    }
  }

 private:
  using policy = latent_policy;
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
