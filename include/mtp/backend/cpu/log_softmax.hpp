// Logarithms of the probabilities in a row of logits, on the CPU.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "mtp/backend/cpu/abi.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// log softmax of a row, in f64: one reading for the largest logit, one for the sum, in order.
template <scalar S>
class log_softmax {
 public:
  log_softmax(const S* logits, index_t V) : logits_(logits) {
    for (index_t v = 0; v < V; ++v) {
      largest_ = (std::max)(largest_, at(v));
    }
    double sum = 0;
    for (index_t v = 0; v < V; ++v) {
      sum += std::exp(at(v) - largest_);
    }
    log_sum_ = std::log(sum);
  }

  /// That of a token, which must lie in [0, V).
  double operator()(index_t token) const { return at(token) - largest_ - log_sum_; }

 private:
  double at(index_t v) const {
    return static_cast<double>(static_cast<accumulate_t<S>>(logits_[v]));
  }

  const S* logits_;  // [V]
  double largest_ = -std::numeric_limits<double>::infinity();
  double log_sum_ = 0;
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
