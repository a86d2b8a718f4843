// FastMTP's head: one sequential module applied D times (arXiv 2509.18362); Megatron's repeated
// layer.
#pragma once

#include <cmath>
#include <cstddef>

#include "mtp/model/heads/sequential.hpp"

namespace mtp::inline MTP_ABI {

/// The sequential head with a single module for all depths: config.prediction.modules() is 1. Every
/// application attends over its own stream, so each depth has a cache of its own; gradients of all
/// depths add up in the one module.
template <model_config Config, class Backend, scalar S>
struct recurrent_head : sequential_head<Config, Backend, S> {
  static_assert(Config.prediction.modules() == 1, "recurrent_head: one module serves all depths");
};

/// The head of head_kind::recurrent.
template <>
struct head_traits<head_kind::recurrent> {
  /// Falling by 0.6 per depth with sum 1: FastMTP's 0.51, 0.31, 0.18.
  static double default_weight(std::size_t k, std::size_t D) {
    double sum = 0;
    for (std::size_t j = 1; j <= D; ++j) {
      sum += std::pow(0.6, static_cast<double>(j));
    }
    return std::pow(0.6, static_cast<double>(k)) / sum;
  }

  /// DeepSeek-V3's schedule.
  static constexpr lambda_factors default_lambda = deepseek_lambda;

  /// Its class template.
  template <model_config Config, class Backend, scalar S>
  using head = recurrent_head<Config, Backend, S>;
};

}  // namespace mtp::inline MTP_ABI
