// Floating-point operations of models with layers of the library, counted from their configuration.
#pragma once

#include "mtp/model/model_config.hpp"

namespace mtp::bench {

/// Whether each depth has a block of its own to pass.
constexpr bool depths_have_blocks(const model_config& config) {
  return config.prediction.kind == head_kind::sequential ||
         config.prediction.kind == head_kind::recurrent ||
         config.prediction.kind == head_kind::parallel;
}

/// Weights of the attention layer.
constexpr double attention_weights(const model_config& config) {
  const auto& own = config.attention;
  const double C = config.hidden_size, H = own.num_attention_heads;
  if (own.kind == attention_kind::multi_head_latent) {
    const double rank = own.kv_lora_rank, n = own.qk_nope_head_dim, r = own.qk_rope_head_dim;
    const double queries = H * (n + r), values = own.v_head_dim, low = own.q_lora_rank;
    return (low > 0 ? C * low + low * queries : C * queries) + C * (rank + r) +
           rank * H * (n + values) + H * values * C;
  }
  const double E = config.head_dim(), G = config.num_key_value_heads();
  return C * (H + 2 * G) * E + C * H * E;
}

/// Width of a query and a value, of all heads together.
constexpr double attention_widths(const model_config& config) {
  const auto& own = config.attention;
  return own.num_attention_heads *
         (own.kind == attention_kind::multi_head_latent
              ? own.qk_nope_head_dim + own.qk_rope_head_dim + own.v_head_dim
              : 2.0 * config.head_dim());
}

/// Weights of SwiGLU.
constexpr double dense_weights(const model_config& config) {
  return 3.0 * config.hidden_size * config.feed_forward.intermediate_size;
}

/// Weights of the feed-forward layer that a token meets: of a mixture, the router, the token's own
/// experts and those for every row.
constexpr double feed_forward_weights(const model_config& config) {
  const auto& own = config.feed_forward;
  if (own.kind == feed_forward_kind::mixture_of_experts) {
    const double C = config.hidden_size, F = own.moe_intermediate_size;
    return C * own.n_routed_experts + 3 * C * F * (own.num_experts_per_tok + own.n_shared_experts);
  }
  return dense_weights(config);
}

/// Multiply-adds of the weights that a token meets in training, all depths together.
constexpr double weights_per_token(const model_config& config) {
  const double C = config.hidden_size, V = config.vocab_size;
  const double D = config.prediction.depth;
  const double block = attention_weights(config) + feed_forward_weights(config);
  const double dense_block = attention_weights(config) + dense_weights(config);
  const int dense = config.feed_forward.first_k_dense_replace;
  const double trunk = dense * dense_block + (config.num_hidden_layers - dense) * block + C * V;
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
