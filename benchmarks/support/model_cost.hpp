// Floating-point operations of models, counted from their configuration.
#pragma once

#include "mtp/model/model_config.hpp"

namespace mtp::bench {

/// Whether each depth has a block of its own to pass.
constexpr bool depths_have_blocks(const model_config& config) {
  return config.head == head_kind::sequential || config.head == head_kind::recurrent ||
         config.head == head_kind::parallel;
}

/// Multiply-adds of the weights that a token meets in training, all depths together.
constexpr double weights_per_token(const model_config& config) {
  const double C = config.hidden_size, F = config.intermediate_size, V = config.vocab_size;
  const double D = config.depth;
  const double block = C * static_cast<double>(config.qkv_size()) +
                       C * static_cast<double>(config.query_size()) + 3 * C * F;
  const double trunk = config.num_layers * block + C * V;
  const bool is_independent = config.head == head_kind::independent;
  if (!depths_have_blocks(config) && !is_independent) {
    return trunk;  // no logits beyond the ordinary ones
  }
  const bool combines = config.head == head_kind::sequential || config.head == head_kind::recurrent;
  const double own = is_independent ? C * C : block + (combines ? 2 * C * C : 0);
  return trunk + D * (own + C * V);
}

/// Of a training step, for one token of a sequence of `length`: six for every weight that it meets
/// (two forward, four backward), and 6 * length * H * E for the attention of each block, which
/// looks at half of the sequence on average.
constexpr double training_flops_per_token(const model_config& config, double length) {
  const double blocks = config.num_layers + (depths_have_blocks(config) ? config.depth : 0);
  return 6 * weights_per_token(config) +
         blocks * 6 * length * static_cast<double>(config.query_size());
}

/// Weights that a decoding pass of the trunk reads: its blocks and its output matrix.
constexpr double trunk_weights(model_config config) {
  config.head = head_kind::none;
  config.depth = 0;
  return weights_per_token(config);
}

}  // namespace mtp::bench
