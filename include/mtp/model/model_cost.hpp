// Weights that a token meets in layers of the library, counted from their configuration.
#pragma once

#include "mtp/model/model_config.hpp"

namespace mtp::inline MTP_ABI {

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

/// Weights of a block that a token meets; `dense`: with SwiGLU where other blocks have a mixture.
constexpr double block_weights(const model_config& config, bool dense) {
  return attention_weights(config) + (dense ? dense_weights(config) : feed_forward_weights(config));
}

/// Weights behind the trunk's blocks that a token meets in training: the output matrix, and for
/// each depth its own weights and an output matrix. Heads that are not the library's count as none.
constexpr double head_weights(const model_config& config) {
  const double C = config.hidden_size, V = config.vocab_size;
  const double D = config.prediction.depth;
  const bool is_independent = config.prediction.kind == head_kind::independent;
  if (!depths_have_blocks(config) && !is_independent) {
    return C * V;  // no logits beyond the ordinary ones
  }
  const bool combines = config.prediction.kind == head_kind::sequential ||
                        config.prediction.kind == head_kind::recurrent;
  const double own =
      is_independent ? C * C : block_weights(config, false) + (combines ? 2 * C * C : 0);
  return C * V + D * (own + C * V);
}

}  // namespace mtp::inline MTP_ABI
