// DeepSeek-V3 at a size for two cores, and dense models to hold it against.
#pragma once

#include "mtp/mtp.hpp"

namespace example {

/// Latent attention, 16 experts of which a token takes 4, one that all share, and a module of
/// multi-token prediction for each of `depth` tokens: the design of DeepSeek-V3 with 24 million
/// parameters, 7 of which a token reads.
constexpr mtp::model_config deepseek_v3(int depth) {
  return {.vocab_size = 256,  // bytes
          .hidden_size = 256,
          .num_hidden_layers = 6,
          .max_position_embeddings = 512,
          .attention = {.kind = mtp::attention_kind::multi_head_latent,
                        .num_attention_heads = 8,
                        .q_lora_rank = 128,
                        .kv_lora_rank = 64,
                        .qk_nope_head_dim = 32,
                        .qk_rope_head_dim = 16,
                        .v_head_dim = 32},
          .feed_forward = {.kind = mtp::feed_forward_kind::mixture_of_experts,
                           .intermediate_size = 1280,
                           .first_k_dense_replace = 1,
                           .n_routed_experts = 16,
                           .num_experts_per_tok = 4,
                           .moe_intermediate_size = 256,
                           .n_shared_experts = 1,
                           .n_group = 4,
                           .topk_group = 2,
                           .norm_topk_prob = true,
                           .routed_scaling_factor = 2.5f,
                           .scoring_func = mtp::scoring_function::sigmoid,
                           .e_score_correction_bias = true},
          .prediction = {.kind = mtp::head_kind::sequential, .depth = depth}};
}

/// The same with a dense layer in place of the experts.
constexpr mtp::model_config dense(int intermediate_size) {
  mtp::model_config config = deepseek_v3(1);
  config.feed_forward = {.intermediate_size = intermediate_size};
  return config;
}

/// As wide as the experts that a token reads: 4 and the shared one.
inline constexpr mtp::model_config same_active = dense(5 * 256);
/// As wide as all experts together.
inline constexpr mtp::model_config same_total = dense(17 * 256);

}  // namespace example
