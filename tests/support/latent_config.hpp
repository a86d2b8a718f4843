// Small models with multi-head latent attention.
#pragma once

#include "mtp/model/model_config.hpp"

namespace mtp::test {

/// Three heads whose keys and values differ in width, a latent that is not a whole panel, and
/// sequences longer than YaRN's first ones.
inline constexpr attention_config small_latents{
    .kind = attention_kind::multi_head_latent,
    .num_attention_heads = 3,
    .rope_scaling = {.kind = rope_scaling_kind::yarn,
                     .factor = 4,
                     .original_max_position_embeddings = 40,
                     .attention_factor = 1.1f,
                     .mscale_all_dim = 0.7f},
    .q_lora_rank = 12,
    .kv_lora_rank = 18,
    .qk_nope_head_dim = 32,
    .qk_rope_head_dim = 6,
    .v_head_dim = 64};

/// A model whose attention is this.
constexpr model_config with_latents(model_config config) {
  config.attention = small_latents;
  return config;
}
/// The same without a low rank of queries, and with values narrower than keys.
constexpr model_config with_plain_queries(model_config config) {
  config.attention = small_latents;
  config.attention.q_lora_rank = 0;
  config.attention.qk_nope_head_dim = 64;
  config.attention.v_head_dim = 32;
  return config;
}

/// A width of the stream that the number of heads does not divide.
constexpr model_config latent_layers(head_kind kind, int depth) {
  return with_latents({.vocab_size = 23,
                       .hidden_size = 20,
                       .num_hidden_layers = 2,
                       .max_position_embeddings = 160,
                       .feed_forward = {.intermediate_size = 24},
                       .prediction = {.kind = kind, .depth = depth}});
}

}  // namespace mtp::test
