// Tokens drawn from logits on a GPU. Contracts: ops/choose_tokens.hpp.
//
// A block for each row. The tokens to keep are selected by the digits of the logits, the highest
// first, and among equal logits by the digits of the token: one pass over the row for each eight
// bits. Sizes are whole numbers, so that atomic additions have one result in any order. A row is
// read about five times without top_k and top_p, and seven or eleven times more with each of these;
// it stays in the second-level cache.
#pragma once

#include <cmath>
#include <cstdint>

#include "mtp/backend/cuda/largest.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/log_softmax.cuh"
#include "mtp/backend/cuda/sampled_sequence.cuh"
#include "mtp/core/gumbel_noise.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/choose_tokens.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

struct choose_tokens_policy {
  static constexpr int threads = 512;  // of a block
  static constexpr int few = 128;      // for a short row
  static constexpr index_t short_row = 2048;
};

/// The whole numbers that blocks add up.
using whole_number = unsigned long long;

/// A row of choose_tokens, divided among the threads of a block: thread t has tokens t, t +
/// blockDim.x, .. All threads call each function.
template <class A>
struct choice_of_row {
  using bits_type = decltype(mtp::detail::ordered_bits(A{}));
  static constexpr int digits = 256;
  // Bits of the number that represents a token: the larger, the lower the token.
  static constexpr std::uint32_t token_bits = 24, most_token = (1u << token_bits) - 1;

  A* x;                 // [V]
  whole_number* marks;  // [V]: marks of occurrences, then weights
  index_t V;
  whole_number* sizes;           // [digits], shared
  bits_type last = 0;            // of the last token that is kept
  std::uint32_t last_token = 0;  // most_token - the last token that is kept

  template <class Body>
  __device__ __forceinline__ void for_each(const Body& body) const {
    for (index_t v = threadIdx.x; v < V; v += blockDim.x) {
      body(v);
    }
  }

  __device__ __forceinline__ bool is_kept(index_t v) const {
    const bits_type bits = mtp::detail::ordered_bits(x[v]);
    return x[v] == x[v] &&
           (bits > last ||
            (bits == last && most_token - static_cast<std::uint32_t>(v) >= last_token));
  }

  /// Finds `wanted` among the sizes, from the highest digit down: the digit, and the rest that is
  /// wanted of its tokens; digit 0 if the sizes do not suffice. Every warp computes it itself: lane
  /// l has digits 255 - 8 l .. 248 - 8 l.
  __device__ __forceinline__ int find_digit(whole_number& wanted) const {
    constexpr int each = digits / warp_size;
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    int digit = digits - 1 - each * lane;
    whole_number own = 0;
    for (int i = 0; i < each; ++i) {
      own += sizes[digit - i];
    }
    whole_number up_to_own = own;
    for (int distance = 1; distance < warp_size; distance *= 2) {
      const whole_number of_others =
          __shfl_up_sync(all_lanes, up_to_own, static_cast<unsigned>(distance));
      up_to_own += lane >= distance ? of_others : 0;
    }
    const unsigned reached = __ballot_sync(all_lanes, up_to_own >= wanted ? 1 : 0);
    const int source = reached != 0 ? __ffs(static_cast<int>(reached)) - 1 : warp_size - 1;
    whole_number rest = wanted - (up_to_own - own);
    for (int i = 1; i < each && sizes[digit] < rest; ++i) {
      rest -= sizes[digit--];
    }
    wanted = __shfl_sync(all_lanes, rest, source);
    return __shfl_sync(all_lanes, digit, source);
  }

  /// One digit: adds up the sizes of tokens that have a digit_of(v); -1 means none.
  template <class Size, class Digit>
  __device__ __forceinline__ int select_digit(whole_number& wanted,
                                              const Size& size,
                                              const Digit& digit_of) const {
    for (int i = static_cast<int>(threadIdx.x); i < digits; i += static_cast<int>(blockDim.x)) {
      sizes[i] = 0;
    }
    __syncthreads();
    for_each([&](index_t v) {
      const int digit = digit_of(v);
      if (digit >= 0) {
        atomicAdd(sizes + digit, size(v));
      }
    });
    __syncthreads();
    const int found = find_digit(wanted);
    __syncthreads();  // all have read before the sizes are zeroed again
    return found;
  }

  /// Of the kept tokens, in falling order of x, keeps the fewest whose sizes add up to at least
  /// `wanted`, or all.
  template <class Size>
  __device__ __forceinline__ void keep(whole_number wanted, const Size& size) {
    bits_type prefix = 0, mask = 0;
    for (int shift = static_cast<int>(sizeof(A)) * 8 - 8; shift >= 0; shift -= 8) {
      const int digit = select_digit(wanted, size, [&](index_t v) {
        const bits_type bits = mtp::detail::ordered_bits(x[v]);
        return (bits & mask) == prefix && is_kept(v) ? static_cast<int>(bits >> shift & 255) : -1;
      });
      prefix |= static_cast<bits_type>(digit) << shift;
      mask |= bits_type{255} << shift;
    }
    std::uint32_t token = 0, token_mask = 0;
    for (int shift = static_cast<int>(token_bits) - 8; shift >= 0; shift -= 8) {
      const int digit = select_digit(wanted, size, [&](index_t v) {
        const std::uint32_t number = most_token - static_cast<std::uint32_t>(v);
        return mtp::detail::ordered_bits(x[v]) == prefix && (number & token_mask) == token &&
                       is_kept(v)
                   ? static_cast<int>(number >> shift & 255)
                   : -1;
      });
      token |= static_cast<std::uint32_t>(digit) << shift;
      token_mask |= 255u << shift;
    }
    last = prefix;
    last_token = token;
  }

  /// The sum over the row, in every thread.
  template <class Size>
  __device__ __forceinline__ whole_number sum(const Size& size) const {
    if (threadIdx.x == 0) {
      sizes[0] = 0;
    }
    __syncthreads();
    whole_number own = 0;
    for_each([&](index_t v) { own += size(v); });
    atomicAdd(sizes, own);
    __syncthreads();
    const whole_number all = sizes[0];
    __syncthreads();
    return all;
  }
};

/// Shared memory of a block.
template <class A>
struct choice_memory {
  whole_number sizes[choice_of_row<A>::digits];
  largest<A> of_warps[block_reduction_size];
  largest<double> scores[block_reduction_size];
};

/// x = the row with bias and penalties, without excluded stop tokens.
template <class S, class A>
__device__ __forceinline__ void adjust_row(const choice_of_row<A>& row,
                                           const S* logits,
                                           const sampled_sequence& sequence,
                                           const mtp::detail::sampling_numbers& rule,
                                           index_t position,
                                           index_t tree_row = 0) {
  const A nan = static_cast<A>(__uint_as_float(0x7fc00000u));
  const float no_bias = -__uint_as_float(0x7f800000u);
  const bool penalizes = rule.penalizes();
  row.for_each([&](index_t v) {
    const A logit = static_cast<A>(logits[v]);
    row.x[v] =
        !rule.has_bias ? logit
        : sequence.bias[v] == no_bias
            ? nan
            : static_cast<A>(static_cast<double>(logit) + static_cast<double>(sequence.bias[v]));
    if (penalizes) {
      row.marks[v] = 0;
    }
  });
  __syncthreads();
  if (rule.forbids_stop(position)) {
    for (index_t i = threadIdx.x; i < rule.stop_count; i += blockDim.x) {
      const token_t token = sequence.stop_tokens[i];
      if (token >= 0 && token < row.V) {
        row.x[token] = nan;
      }
    }
  }
  if (penalizes) {
    const auto mark = [&](index_t i, std::uint64_t occurs) {
      const token_t token = i < sequence.capacity ? sequence.tokens[i] : token_t{-1};
      if (token >= 0 && token < row.V) {
        atomicAdd(row.marks + token, static_cast<whole_number>(occurs));
      }
    };
    const bool in_tree = sequence.parents != nullptr;
    const index_t before = in_tree ? sequence.state[sequence_count] : position;
    for (index_t i = threadIdx.x; i < before; i += blockDim.x) {
      mark(i,
           i < rule.prompt_length ? mtp::detail::occurs_in_prompt
                                  : mtp::detail::occurs_behind_prompt);
    }
    for (index_t r = tree_row; in_tree && threadIdx.x == 0 && r > 0; r = sequence.parents[r]) {
      mark(before - 1 + r, mtp::detail::occurs_behind_prompt);
    }
  }
  __syncthreads();
  if (penalizes) {
    row.for_each([&](index_t v) {
      if (row.marks[v] != 0) {
        row.x[v] = mtp::detail::penalized(row.x[v], rule, row.marks[v]);
      }
    });
  }
}

/// The largest x of a row, place -1 if none is a number; every thread gets it.
template <class A>
__device__ __forceinline__ largest<A> largest_of(const choice_of_row<A>& row,
                                                 choice_memory<A>& shared) {
  largest<A> first = no_largest<A>();
  row.for_each([&](index_t v) { first.meet(row.x[v], static_cast<token_t>(v)); });
  return block_largest(first, shared.of_warps);
}

/// Keeps what the rule keeps, where the largest x is a number. `weight` is a token's. Returns the
/// least weight that is kept.
template <class A, class Weight>
__device__ __forceinline__ whole_number keep_by_rule(choice_of_row<A>& row,
                                                     const mtp::detail::sampling_numbers& rule,
                                                     const Weight& weight) {
  if (rule.top_k > 0 && rule.top_k < row.V) {
    row.keep(static_cast<whole_number>(rule.top_k), [](index_t) { return whole_number{1}; });
  }
  if (rule.top_p < 1) {
    const whole_number sum = row.sum([&](index_t v) {
      row.marks[v] = row.is_kept(v) ? weight(v) : 0;
      return row.marks[v];
    });
    row.keep(mtp::detail::share_of_weights(rule.top_p, sum),
             [&](index_t v) { return row.marks[v]; });
  }
  return rule.min_p > 0
             ? mtp::detail::share_of_weights(rule.min_p, mtp::detail::probability_weight(0))
             : 0;
}

template <class S, int Block>
__global__ void __launch_bounds__(Block)
    choose_tokens_kernel(token_t* __restrict__ chosen,  // [M]
                         accumulate_t<S>* x,            // [M, V]
                         whole_number* marks,           // [M, V]
                         const S* __restrict__ logits,  // [M, V] stride (row, 1)
                         index_t stride,
                         index_t V,
                         sampled_sequence sequence,
                         index_t offset) {
  using A = accumulate_t<S>;
  choice_memory<A>& shared = *dynamic_shared<choice_memory<A>>();
  const index_t m = blockIdx.x;
  const mtp::detail::sampling_numbers rule(sequence.integers, sequence.reals, sequence.room);
  const index_t ahead = sequence.parents == nullptr
                            ? offset + m
                            : mtp::detail::depth_in_tree(sequence.parents, offset + m);
  const index_t position = sequence.state[sequence_count] + ahead;
  choice_of_row<A> row{x + m * V, marks + m * V, V, shared.sizes};
  adjust_row(row, logits + m * stride, sequence, rule, position, offset + m);

  const largest<A> first = largest_of(row, shared);
  if (first.at < 0 || rule.temperature == 0) {
    if (threadIdx.x == 0) {
      chosen[m] = first.at;
    }
    return;
  }

  const auto scaled = [&](index_t v) {
    return mtp::detail::scaled_logit(row.x[v], first.value, rule.temperature);
  };
  const auto weight = [&](index_t v) -> whole_number {
    return mtp::detail::probability_weight(scaled(v));
  };
  const whole_number least = keep_by_rule(row, rule, weight);
  const gumbel_noise noise(rule.noise_seed, rule.sequence, position);
  mtp::detail::drawn_token best;
  row.for_each([&](index_t v) {
    if (row.is_kept(v) && (least == 0 || weight(v) >= least)) {
      best.meet(scaled(v), noise, v);
    }
  });
  const auto drawn = block_largest(largest<double>{best.score, best.at}, shared.scores);
  if (threadIdx.x == 0) {
    chosen[m] = drawn.at;
  }
}

/// A block for each row.
template <class S>
__global__ void __launch_bounds__(log_softmax_threads)
    token_log_probabilities_kernel(double* __restrict__ log_probabilities,  // [M]
                                   const S* __restrict__ logits,  // [M, V] stride (stride, 1)
                                   index_t stride,
                                   index_t V,
                                   const token_t* __restrict__ tokens) {  // [M]
  const index_t m = blockIdx.x;
  const log_softmax<S> logarithm(logits + m * stride, V, dynamic_shared<double>());
  if (threadIdx.x == 0) {
    const token_t token = tokens[m];
    log_probabilities[m] = token >= 0 && token < V
                               ? logarithm(token)
                               : static_cast<double>(__uint_as_float(0x7fc00000u));
  }
}

struct cuda_choose_tokens_ops {
  template <scalar S>
  static void choose_tokens(cuda_context& context,
                            vector_view<token_t, cuda> chosen,
                            matrix_view<const S, cuda> logits,
                            const sequence_view<cuda>& sequence,
                            index_t offset) {
    const index_t M = logits.extent(0), V = logits.extent(1);
    const bool is_short = V <= policy::short_row;
    const arena::scope scope(context.workspace());
    auto* const x = context.workspace().template take<accumulate_t<S>>(M * V);
    auto* const marks = context.workspace().template take<whole_number>(M * V);
    launch(
        context,
        "choose_tokens",
        dim3(extent_of(M, "choose_tokens")),
        dim3(is_short ? policy::few : policy::threads),
        sizeof(choice_memory<accumulate_t<S>>),
        is_short ? choose_tokens_kernel<S, policy::few> : choose_tokens_kernel<S, policy::threads>,
        chosen.data(),
        x,
        marks,
        logits.data(),
        logits.stride(0),
        V,
        sampled_sequence(sequence),
        offset);
  }

  template <scalar S>
  static void token_log_probabilities(cuda_context& context,
                                      vector_view<double, cuda> log_probabilities,
                                      matrix_view<const S, cuda> logits,
                                      vector_view<const token_t, cuda> tokens) {
    launch(context,
           "token_log_probabilities",
           dim3(extent_of(logits.extent(0), "token_log_probabilities")),
           dim3(log_softmax_threads),
           sizeof(double) * block_reduction_size,
           token_log_probabilities_kernel<S>,
           log_probabilities.data(),
           logits.data(),
           logits.stride(0),
           logits.extent(1),
           tokens.data());
  }

  /// The most bytes of workspace that these, draw_drafts, reject_drafts and accept_typical need for
  /// logits [rows, V].
  template <scalar S>
  static constexpr index_t choose_tokens_workspace(index_t rows, index_t vocabulary, index_t) {
    return arena_bytes(rows * vocabulary, sizeof(accumulate_t<S>)) +
           arena_bytes(rows * vocabulary, sizeof(whole_number)) +
           3 * arena_bytes(rows, sizeof(whole_number));
  }

 private:
  using policy = choose_tokens_policy;
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
