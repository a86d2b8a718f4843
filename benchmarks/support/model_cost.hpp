// Floating-point operations of models with layers of the library, counted from their configuration.
#pragma once

#include "mtp/model/model_config.hpp"
#include "mtp/model/model_cost.hpp"

namespace mtp::bench {

/// Multiply-adds of the weights that a token meets in training, all depths together.
constexpr double weights_per_token(const model_config& config) {
  const int dense = config.feed_forward.first_k_dense_replace;
  return dense * block_weights(config, true) +
         (config.num_hidden_layers - dense) * block_weights(config, false) + head_weights(config);
}

/// Of a training step, for one token of a sequence of `length`: six for every weight that it meets
/// (two forward, four backward), and as many for every element of queries and values and each of
/// the positions that attention looks at, half of the sequence on average.
constexpr double training_flops_per_token(const model_config& config, double length) {
  const double blocks =
      config.num_hidden_layers + (depths_have_blocks(config) ? config.prediction.depth : 0);
  return 6 * weights_per_token(config) + blocks * 6 * (length / 2) * attention_widths(config);
}

/// Weights that a decoding pass of the trunk over one row reads: its blocks and its output matrix.
constexpr double trunk_weights(model_config config) {
  config.prediction.kind = head_kind::none;
  config.prediction.depth = 0;
  return weights_per_token(config);
}

}  // namespace mtp::bench
