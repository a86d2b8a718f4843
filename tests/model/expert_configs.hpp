// Small models with mixtures of experts.
#pragma once

#include "mtp/model/model_config.hpp"

namespace mtp::test {

/// Without the experts.
constexpr model_config model_of_experts(head_kind head, int depth, int positions) {
  return {.vocab_size = 19,
          .hidden_size = 32,
          .num_hidden_layers = 2,
          .max_position_embeddings = positions,
          .attention = {.num_attention_heads = 2},
          .prediction = {.kind = head, .depth = depth}};
}

/// DeepSeek's kind: sigmoid and bias, groups, an expert for every row, a first dense block.
constexpr model_config deepseek_experts(head_kind head, int depth, int positions = 144) {
  model_config config = model_of_experts(head, depth, positions);
  config.num_hidden_layers = 3;
  config.feed_forward = {.kind = feed_forward_kind::mixture_of_experts,
                         .intermediate_size = 13,
                         .first_k_dense_replace = 1,
                         .n_routed_experts = 6,
                         .num_experts_per_tok = 3,
                         .moe_intermediate_size = 16,
                         .n_shared_experts = 1,
                         .n_group = 3,
                         .topk_group = 2,
                         .routed_scaling_factor = 1.5f};
  return config;
}

/// Qwen3's and Mixtral's kind: softmax over all experts, nothing else.
constexpr model_config qwen_experts(head_kind head, int depth, int positions = 144) {
  model_config config = model_of_experts(head, depth, positions);
  config.feed_forward = {.kind = feed_forward_kind::mixture_of_experts,
                         .n_routed_experts = 4,
                         .num_experts_per_tok = 2,
                         .moe_intermediate_size = 32,
                         .scoring_func = scoring_function::softmax,
                         .e_score_correction_bias = false};
  return config;
}

}  // namespace mtp::test
