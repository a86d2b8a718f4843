// Logarithms of the probabilities in a row of logits, by a block.
#pragma once

#include <cmath>

#include "mtp/backend/cuda/reduce_block.cuh"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Threads of every block that computes them: bits depend on it.
inline constexpr int log_softmax_threads = 512;

/// log softmax of a row, in f64: the largest, then the sum, in an order that follows from V alone.
/// Thread t reads logits t, t + log_softmax_threads, ..; all threads make it, and each has it.
template <class S>
class log_softmax {
 public:
  __device__ __forceinline__ log_softmax(const S* logits,
                                         index_t V,
                                         double* shared)  // [block_reduction_size]
      : logits_(logits) {
    largest_ = -static_cast<double>(__uint_as_float(0x7f800000u));
    for (index_t v = threadIdx.x; v < V; v += log_softmax_threads) {
      largest_ = at(v) > largest_ ? at(v) : largest_;
    }
    largest_ = block_max(largest_, shared);
    double sum = 0;
    for (index_t v = threadIdx.x; v < V; v += log_softmax_threads) {
      sum += std::exp(at(v) - largest_);
    }
    log_sum_ = std::log(block_sum(sum, shared));
  }

  /// That of a token, which must lie in [0, V).
  __device__ __forceinline__ double operator()(index_t token) const {
    return at(token) - largest_ - log_sum_;
  }

 private:
  __device__ __forceinline__ double at(index_t v) const {
    return static_cast<double>(static_cast<accumulate_t<S>>(logits_[v]));
  }

  const S* logits_;  // [V]
  double largest_, log_sum_;
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
