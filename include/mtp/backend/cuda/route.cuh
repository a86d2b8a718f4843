// The router of a mixture of experts on a GPU. Contracts: ops/route.hpp.
//
// A warp for each row; its scores and choices are in shared memory. Finding an expert takes E / 32
// comparisons of a lane and a reduction: some microseconds for a row, and the rows are many or few.
#pragma once

#include <cstddef>
#include <type_traits>

#include "mtp/backend/cuda/choose_tokens.cuh"
#include "mtp/backend/cuda/exponential.cuh"
#include "mtp/backend/cuda/largest.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/swiglu.cuh"
#include "mtp/core/view.hpp"
#include "mtp/ops/route.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

inline constexpr int sequence_balance_threads = 256;  // of a block

template <class A>
__device__ __forceinline__ A not_a_number() {
  return static_cast<A>(__uint_as_float(0x7fc00000u));
}

/// The first of the largest of `count` numbers, which becomes NaN and so is found once; NaN is
/// none. -1: there is none left. Called by all lanes of a warp.
template <class A>
__device__ __forceinline__ index_t take_largest(A* values, index_t count, int lane) {
  largest<A> best = no_largest<A>();
  for (index_t i = lane; i < count; i += warp_size) {
    best.meet(values[i], static_cast<token_t>(i));
  }
  best = warp_largest(best);
  __syncwarp();  // all lanes have read
  if (lane == 0 && best.at >= 0) {
    values[best.at] = not_a_number<A>();
  }
  __syncwarp();
  return best.at;
}

/// Whether one of `count` numbers is NaN, in every lane.
template <class A>
__device__ __forceinline__ bool any_nan(const A* values, index_t count, int lane) {
  A largest_of_lane = static_cast<A>(-__uint_as_float(0x7f800000u));
  for (index_t i = lane; i < count; i += warp_size) {
    largest_of_lane = maximum(largest_of_lane, values[i]);
  }
  const A all = warp_max(largest_of_lane);
  return all != all;
}

/// scores [E] of the logits of a row, also to memory.
template <class A>
__device__ __forceinline__ void score_row(
    A* scores, A* to, const A* logits, index_t E, scoring_function function, int lane) {
  A top = static_cast<A>(-__uint_as_float(0x7f800000u)), sum = 0;
  if (function == scoring_function::softmax) {
    for (index_t e = lane; e < E; e += warp_size) {
      top = maximum(top, logits[e]);
    }
    top = warp_max(top);
    for (index_t e = lane; e < E; e += warp_size) {
      sum += exponential<A>(logits[e] - top);
    }
    sum = warp_sum(sum);
  }
  for (index_t e = lane; e < E; e += warp_size) {
    scores[e] = function == scoring_function::softmax ? exponential<A>(logits[e] - top) / sum
                                                      : sigmoid<A>(logits[e]);
    to[e] = scores[e];
  }
}

/// The scores of groups: the sum of the two best choices, or the only one.
template <class A>
__device__ __forceinline__ void score_groups(
    A* groups, const A* choices, index_t n_group, index_t size, int lane) {
  for (index_t g = lane; g < n_group; g += warp_size) {
    const A* const own = choices + g * size;
    A first = own[0], second = own[size > 1 ? 1 : 0];
    if (second > first) {
      const A held = first;
      first = second;
      second = held;
    }
    for (index_t e = 2; e < size; ++e) {
      second = own[e] > first ? first : own[e] > second ? own[e] : second;
      first = own[e] > first ? own[e] : first;
    }
    groups[g] = size > 1 ? first + second : first;
  }
  __syncwarp();
}

template <class S>
__global__ void __launch_bounds__(warp_size)
    route_kernel(index_t* __restrict__ experts,          // [N, k] stride (experts_row, 1)
                 index_t experts_row,                    //
                 accumulate_t<S>* __restrict__ weights,  // [N, k] stride (weights_row, 1)
                 index_t weights_row,
                 accumulate_t<S>* __restrict__ all_scores,  // [N, E] stride (scores_row, 1)
                 index_t scores_row,
                 const accumulate_t<S>* __restrict__ logits,  // [N, E] stride (logits_row, 1)
                 index_t logits_row,
                 const S* __restrict__ bias,  // [E], or null
                 index_t E,
                 index_t k,
                 routing_rule rule) {
  using A = accumulate_t<S>;
  A* const scores = dynamic_shared<A>();  // [E]
  A* const choices = scores + E;          // [E]
  A* const groups = choices + E;          // [n_group]
  const int lane = static_cast<int>(threadIdx.x);
  const index_t n = blockIdx.x;
  index_t* const chosen = experts + n * experts_row;
  A* const weight = weights + n * weights_row;
  score_row(
      scores, all_scores + n * scores_row, logits + n * logits_row, E, rule.scoring_func, lane);
  for (index_t e = lane; e < E; e += warp_size) {
    choices[e] = bias != nullptr ? scores[e] + widen(bias[e]) : scores[e];
  }
  __syncwarp();
  const bool in_groups = rule.topk_group < rule.n_group;
  const index_t size = E / rule.n_group;
  if (in_groups) {
    score_groups(groups, choices, rule.n_group, size, lane);
  }
  if (any_nan(choices, E, lane) || (in_groups && any_nan(groups, rule.n_group, lane))) {
    for (index_t j = lane; j < k; j += warp_size) {
      chosen[j] = j;
      weight[j] = not_a_number<A>();
    }
    return;
  }
  __syncwarp();  // before what was looked at changes
  if (in_groups) {
    for (index_t i = 0; i < rule.topk_group; ++i) {
      take_largest(groups, rule.n_group, lane);
    }
    for (index_t e = lane; e < E; e += warp_size) {
      choices[e] = groups[e / size] != groups[e / size] ? choices[e] : not_a_number<A>();
    }
    __syncwarp();
  }
  A sum = 0;
  for (index_t j = 0; j < k; ++j) {
    const index_t e = take_largest(choices, E, lane);
    sum += scores[e];
    if (lane == 0) {
      chosen[j] = e;
      weight[j] = scores[e];
    }
  }
  if (lane == 0) {
    sum += static_cast<A>(mtp::detail::smallest_sum_of_weights);
    for (index_t j = 0; j < k; ++j) {
      weight[j] = (rule.norm_topk_prob ? weight[j] / sum : weight[j]) *
                  static_cast<A>(rule.routed_scaling_factor);
    }
  }
}

template <class S>
__global__ void __launch_bounds__(warp_size)
    route_backward_kernel(S* __restrict__ dlogits,  // [N, E] stride (dlogits_row, 1)
                          index_t dlogits_row,
                          const accumulate_t<S>* __restrict__ dweights,  // [N, k]
                          index_t dweights_row,                          // stride (this, 1)
                          const index_t* __restrict__ experts,           // [N, k]
                          index_t experts_row,                           // stride (this, 1)
                          const accumulate_t<S>* __restrict__ scores,    // [N, E]
                          index_t scores_row,                            // stride (this, 1)
                          const accumulate_t<S>* __restrict__ dscores,   // [N, E], or null
                          index_t dscores_row,                           // stride (this, 1)
                          index_t E,
                          index_t k,
                          routing_rule rule) {
  using A = accumulate_t<S>;
  const index_t n = blockIdx.x;
  const A* const score = scores + n * scores_row;
  const A* const dweight = dweights + n * dweights_row;
  const index_t* const chosen = experts + n * experts_row;
  const A scale = static_cast<A>(rule.routed_scaling_factor);
  const bool softmax = rule.scoring_func == scoring_function::softmax;
  A sum = 1, pull = 0, drift = 0;  // every lane computes the same
  if (rule.norm_topk_prob) {
    sum = 0;
    for (index_t j = 0; j < k; ++j) {
      sum += score[chosen[j]];
    }
    sum += static_cast<A>(mtp::detail::smallest_sum_of_weights);
    for (index_t j = 0; j < k; ++j) {
      pull += dweight[j] * (score[chosen[j]] / sum);
    }
  }
  const auto own = [&](index_t j) { return scale * ((dweight[j] - pull) / sum); };
  const auto given = [&](index_t e) {
    return dscores != nullptr ? dscores[n * dscores_row + e] : A(0);
  };
  if (softmax) {
    for (index_t e = threadIdx.x; e < E; e += warp_size) {
      drift += given(e) * score[e];
    }
    drift = warp_sum(drift);
  }
  for (index_t j = 0; softmax && j < k; ++j) {
    drift += own(j) * score[chosen[j]];
  }
  for (index_t e = threadIdx.x; e < E; e += warp_size) {
    A ds = given(e);
    for (index_t j = 0; j < k; ++j) {
      ds = chosen[j] == e ? ds + own(j) : ds;
    }
    dlogits[n * dlogits_row + e] =
        narrow<S>(softmax ? score[e] * (ds - drift) : ds * (score[e] * (1 - score[e])));
  }
}

/// A block for each sequence: it counts the pairs of each expert, then a warp takes a row at a
/// time.
template <class A>
__global__ void __launch_bounds__(sequence_balance_threads)
    sequence_balance_backward_kernel(A* __restrict__ dscores,  // [N, E] stride (dscores_row, 1)
                                     index_t dscores_row,
                                     double* __restrict__ values,          // [N]; may be null
                                     const A* __restrict__ scores,         // [N, E]
                                     index_t scores_row,                   // stride (this, 1)
                                     const index_t* __restrict__ experts,  // [N, k]
                                     index_t experts_row,                  // stride (this, 1)
                                     index_t T,
                                     index_t E,
                                     index_t k,
                                     double weight) {
  constexpr int threads = sequence_balance_threads;
  whole_number* const counts = dynamic_shared<whole_number>();  // [E]
  const index_t first = blockIdx.x * T;
  const int thread = static_cast<int>(threadIdx.x);
  for (index_t e = thread; e < E; e += threads) {
    counts[e] = 0;
  }
  __syncthreads();
  for (index_t i = thread; i < T * k; i += threads) {
    const index_t e = experts[(first + i / k) * experts_row + i % k];
    if (e >= 0 && e < E) {
      atomicAdd(counts + e, whole_number{1});
    }
  }
  __syncthreads();
  const A unit = static_cast<A>(E) / static_cast<A>(k * T);
  const int lane = thread % warp_size;
  for (index_t n = first + thread / warp_size; n < first + T; n += threads / warp_size) {
    const A* const score = scores + n * scores_row;
    A sum = 0, mean = 0;
    for (index_t e = lane; e < E; e += warp_size) {
      sum += score[e];
      mean += static_cast<A>(counts[e]) * unit * score[e];
    }
    sum = warp_sum(sum) + static_cast<A>(mtp::detail::smallest_sum_of_weights);
    mean = warp_sum(mean) / sum;
    const double share = weight / static_cast<double>(T);
    if (values != nullptr && lane == 0) {
      values[n] += share * static_cast<double>(mean);
    }
    const A factor = static_cast<A>(share) / sum;
    for (index_t e = lane; e < E; e += warp_size) {
      dscores[n * dscores_row + e] = factor * (static_cast<A>(counts[e]) * unit - mean);
    }
  }
}

struct cuda_route_ops {
  template <scalar S>
  static void route(cuda_context& context,
                    matrix_view<index_t, cuda> experts,
                    matrix_view<accumulate_t<S>, cuda> weights,
                    matrix_view<accumulate_t<S>, cuda> scores,
                    matrix_view<const accumulate_t<S>, cuda> logits,
                    vector_view<const S, cuda> bias,
                    const routing_rule& rule) {
    const index_t E = logits.extent(1);
    launch(context,
           "route",
           dim3(extent_of(logits.extent(0), "route")),
           dim3(warp_size),
           static_cast<std::size_t>(2 * E + rule.n_group) * sizeof(accumulate_t<S>),
           route_kernel<S>,
           experts.data(),
           experts.stride(0),
           weights.data(),
           weights.stride(0),
           scores.data(),
           scores.stride(0),
           logits.data(),
           logits.stride(0),
           bias.data(),
           E,
           experts.extent(1),
           rule);
  }

  template <scalar S>
  static void route_backward(cuda_context& context,
                             matrix_view<S, cuda> dlogits,
                             matrix_view<const accumulate_t<S>, cuda> dweights,
                             matrix_view<const index_t, cuda> experts,
                             matrix_view<const accumulate_t<S>, cuda> scores,
                             matrix_view<const accumulate_t<S>, cuda> dscores,
                             const routing_rule& rule) {
    launch(context,
           "route_backward",
           dim3(extent_of(scores.extent(0), "route_backward")),
           dim3(warp_size),
           0,
           route_backward_kernel<S>,
           dlogits.data(),
           dlogits.stride(0),
           dweights.data(),
           dweights.stride(0),
           experts.data(),
           experts.stride(0),
           scores.data(),
           scores.stride(0),
           dscores.data(),
           dscores.stride(0),
           scores.extent(1),
           experts.extent(1),
           rule);
  }

  template <scalar A>
  static void sequence_balance_backward(cuda_context& context,
                                        matrix_view<A, cuda> dscores,
                                        vector_view<double, cuda> values,
                                        matrix_view<const A, cuda> scores,
                                        matrix_view<const index_t, cuda> experts,
                                        index_t T,
                                        double weight) {
    const index_t E = scores.extent(1);
    launch(context,
           "sequence_balance_backward",
           dim3(extent_of(scores.extent(0) / T, "sequence_balance_backward")),
           dim3(sequence_balance_threads),
           static_cast<std::size_t>(E) * sizeof(whole_number),
           sequence_balance_backward_kernel<A>,
           dscores.data(),
           dscores.stride(0),
           values.data(),
           scores.data(),
           scores.stride(0),
           experts.data(),
           experts.stride(0),
           T,
           E,
           experts.extent(1),
           weight);
  }

  /// The most bytes of workspace that these operations need.
  template <scalar S>
  static constexpr index_t route_workspace(index_t, index_t) {
    return 0;
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
