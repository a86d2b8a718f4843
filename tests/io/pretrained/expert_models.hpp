// Configurations of the checkpoints of mixtures of experts and of latent attention that
// transformers wrote.
#pragma once

#include "mtp/model/config_fields.hpp"

namespace mtp::testing::experts {

inline constexpr model_config sizes{
    .vocab_size = 64,
    .hidden_size = 32,
    .num_hidden_layers = 2,
    .max_position_embeddings = 64,
    .rms_norm_eps = 1e-5f,
    .attention = {.num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 8},
    .feed_forward = {.kind = feed_forward_kind::mixture_of_experts,
                     .intermediate_size = 48,
                     .n_routed_experts = 8,
                     .num_experts_per_tok = 3,
                     .moe_intermediate_size = 16}};

inline constexpr auto routed = [] {
  auto config = sizes;
  auto& layer = config.feed_forward;
  layer.n_shared_experts = 2;
  layer.routed_scaling_factor = 1.5f;
  layer.norm_topk_prob = true;
  layer.scoring_func = scoring_function::sigmoid;
  layer.e_score_correction_bias = true;
  layer.first_k_dense_replace = 1;
  return config;
}();
inline constexpr auto with_module = [](model_config config) {
  config.prediction = {
      .kind = head_kind::sequential, .depth = 1, .concat = concat_order::embedding_first};
  return config;
};
inline constexpr auto latent = [](model_config config) {
  config.attention = {.kind = attention_kind::multi_head_latent,
                      .num_attention_heads = 2,
                      .kv_lora_rank = 24,
                      .qk_nope_head_dim = 32,
                      .qk_rope_head_dim = 8,
                      .v_head_dim = 32,
                      .lora_norm_eps = 1e-6f};
  return config;
};

inline constexpr auto deepseek_v3 = [] {
  auto config = with_module(latent(routed));
  config.attention.q_lora_rank = 20;
  config.attention.rope_scaling = {.kind = rope_scaling_kind::yarn,
                                   .factor = 4,
                                   .original_max_position_embeddings = 16,
                                   .beta_fast = 4,
                                   .beta_slow = 0.5f,
                                   .attention_factor = 1.03791002f,  // m(1) / m(0.7)
                                   .mscale_all_dim = 0.7f};
  config.feed_forward.n_group = 4;
  config.feed_forward.topk_group = 2;
  return resolved(config);
}();
inline constexpr auto glm4_moe_lite = [] {
  auto config = latent(routed);
  config.attention.v_head_dim = 64;
  config.feed_forward.norm_topk_prob = false;
  return resolved(config);
}();
inline constexpr auto glm4_moe = [] {
  auto config = with_module(routed);
  config.attention.qkv_bias = true;
  config.attention.qk_norm = true;
  config.attention.partial_rotary_factor = 0.5f;
  return config;
}();
inline constexpr auto softmax = [] {
  auto config = sizes;
  config.feed_forward.norm_topk_prob = true;
  config.feed_forward.scoring_func = scoring_function::softmax;
  config.feed_forward.e_score_correction_bias = false;
  return config;
}();
inline constexpr auto qwen3_moe = [] {
  auto config = softmax;
  config.attention.qk_norm = true;
  return config;
}();
inline constexpr auto mixtral = [] {
  auto config = softmax;
  config.attention.rope_theta = 1000000;
  config.feed_forward.intermediate_size = 16;
  config.feed_forward.num_experts_per_tok = 2;
  return config;
}();

}  // namespace mtp::testing::experts
