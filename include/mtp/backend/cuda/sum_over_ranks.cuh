// Sums over ranks on GPUs. Contract: ops/sum_over_ranks.hpp.
#pragma once

#include <algorithm>
#include <cstddef>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/core/arena.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

struct sum_over_ranks_policy {
  static constexpr int threads = 256;
  /// As long as the values of all ranks are at most so many bytes, each rank gets all of them, in
  /// one call of the engine. More of them are added by ranges, in two calls that carry less.
  static constexpr index_t gathered_bytes = index_t{1} << 18;
};

/// What the ranks bring to a sum of `count` elements.
template <class S>
struct rank_values {
  const S* own;       // [count]
  const S* received;  // [ranks, stride]; the place of this rank is not read
  index_t stride;
  int rank;
  int ranks;
};

/// to[i] = ((0 + x_0[i]) + x_1[i]) + .., rounded once; `to` may be the own values. Moves R + 1
/// values for each element.
template <class S, bool Packed>
__global__ void __launch_bounds__(sum_over_ranks_policy::threads)
    sum_over_ranks_kernel(S* to, rank_values<S> from, index_t count) {
  constexpr int W = pack<S>::width;
  const index_t i =
      (static_cast<index_t>(blockIdx.x) * sum_over_ranks_policy::threads + threadIdx.x) * W;
  if (i >= count) {
    return;
  }
  accumulate_t<S> sums[W] = {};
  for (int r = 0; r < from.ranks; ++r) {
    const S* const values = r == from.rank ? from.own : from.received + r * from.stride;
    accumulate_t<S> terms[W];
    widen_pack(terms, load_elements<Packed>(values, i, count));
#pragma unroll
    for (int k = 0; k < W; ++k) {
      sums[k] += terms[k];
    }
  }
  store_elements<Packed>(to, i, count, narrow_pack<S>(sums));
}

struct cuda_sum_over_ranks_ops {
  template <scalar S>
  static void sum_over_ranks(cuda_context& context, vector_view<S, cuda> values) {
    cuda_tensor_group& ranks = *context.ranks();
    const index_t N = values.extent(0), R = ranks.size();
    if (R == 1 || N == 0) {
      return;
    }
    if (ranks.order() == reduction_order::engine) {
      ranks.device_sum(values.data(), N);
      return;
    }
    constexpr index_t unit = sizeof(S);
    const arena::scope scope(context.workspace());
    auto* const bytes = reinterpret_cast<std::byte*>(values.data());
    if (R * N * unit <= sum_over_ranks_policy::gathered_bytes) {
      S* const all = context.workspace().template take<S>(R * N);  // [R, N]
      ranks.device_gather(bytes, reinterpret_cast<std::byte*>(all), N * unit);
      add_in_order<S>(
          context, values.data(), {values.data(), all, N, ranks.rank(), ranks.size()}, N);
      return;
    }
    // Each rank adds a range for all, and hands it out.
    const index_t length = range_of_rank<S>(N, R);
    const index_t first = std::min(ranks.rank() * length, N), own = std::min(length, N - first);
    S* const received = context.workspace().template take<S>(R * length);  // [R, own]
    ranks.device_exchange(
        bytes, reinterpret_cast<std::byte*>(received), N * unit, unit * pack<S>::width);
    S* const sums = values.data() + first;
    add_in_order<S>(context, sums, {sums, received, own, ranks.rank(), ranks.size()}, own);
    ranks.device_all_gather(bytes, N * unit, unit * pack<S>::width);
  }

  /// The most bytes of workspace that it needs for at most `count` elements and `ranks` ranks.
  template <scalar S>
  static constexpr index_t sum_over_ranks_workspace(index_t count, index_t ranks) {
    constexpr index_t gathered =
        sum_over_ranks_policy::gathered_bytes / static_cast<index_t>(sizeof(S));
    return arena_bytes(
        std::max(ranks * range_of_rank<S>(count, ranks), std::min(ranks * count, gathered)),
        sizeof(S));
  }

 private:
  /// Elements that a rank adds for all: whole packs, as shards() counts them.
  template <class S>
  static constexpr index_t range_of_rank(index_t count, index_t ranks) {
    return std::min(round_up(ceil_div(count, ranks), pack<S>::width), count);
  }

  template <class S>
  static void add_in_order(cuda_context& context,
                           S* to,
                           const rank_values<S>& from,
                           index_t count) {
    const char* const name = "sum_over_ranks";
    constexpr int W = pack<S>::width;
    const bool packed = in_packs(to, 0, count) && in_packs(from.own, 0, count) &&
                        in_packs(from.received, from.stride, count);
    launch(context,
           name,
           dim3(extent_of(ceil_div(count, sum_over_ranks_policy::threads * W), name)),
           dim3(sum_over_ranks_policy::threads),
           0,
           packed ? sum_over_ranks_kernel<S, true> : sum_over_ranks_kernel<S, false>,
           to,
           from,
           count);
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
