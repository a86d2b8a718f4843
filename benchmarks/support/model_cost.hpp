// Floating-point operations of models whose blocks are grouped-query attention and SwiGLU, counted
// from their configuration.
#pragma once

#include "mtp/model/model_config.hpp"

namespace mtp::bench {

/// Whether each depth has a block of its own to pass.
constexpr bool depths_have_blocks(const model_config& config) {
  return config.prediction.kind == head_kind::sequential ||
         config.prediction.kind == head_kind::recurrent ||
         config.prediction.kind == head_kind::parallel;
}

/// Multiply-adds of the weights that a token meets in training, all depths together.
constexpr double weights_per_token(const model_config& config) {
  const double C = config.hidden_size, F = config.feed_forward.intermediate_size,
               V = config.vocab_size;
  const double D = config.prediction.depth;
  const double H = config.attention.num_attention_heads, G = config.num_key_value_heads();
  const double E = config.head_dim();
  const double block = C * (H + 2 * G) * E + C * H * E + 3 * C * F;
  const double trunk = config.num_hidden_layers * block + C * V;
  const bool is_independent = config.prediction.kind == head_kind::independent;
  if (!depths_have_blocks(config) && !is_independent) {
    return trunk;  // no logits beyond the ordinary ones
  }
  const bool combines = config.prediction.kind == head_kind::sequential ||
                        config.prediction.kind == head_kind::recurrent;
  const double own = is_independent ? C * C : block + (combines ? 2 * C * C : 0);
  return trunk + D * (own + C * V);
}

/// Of a training step, for one token of a sequence of `length`: six for every weight that it meets
/// (two forward, four backward), and 6 * length * H * E for the attention of each block, which
/// looks at half of the sequence on average.
constexpr double training_flops_per_token(const model_config& config, double length) {
  const double blocks =
      config.num_hidden_layers + (depths_have_blocks(config) ? config.prediction.depth : 0);
  return 6 * weights_per_token(config) +
         blocks * 6 * length * config.attention.num_attention_heads * config.head_dim();
}

/// Weights that a decoding pass of the trunk reads: its blocks and its output matrix.
constexpr double trunk_weights(model_config config) {
  config.prediction.kind = head_kind::none;
  config.prediction.depth = 0;
  return weights_per_token(config);
}

}  // namespace mtp::bench
