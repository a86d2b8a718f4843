// A configuration as source: what is printed is what was compiled.
#include "mtp/io/pretrained/config_literal.hpp"

#include <doctest/doctest.h>
#include <string>

namespace mtp::test::io_pretrained_config_literal_cases {

namespace {

/// A configuration and its own source, with every sequence of spaces as one.
#define CONFIG_AND_SOURCE(name, ...)            \
  constexpr mtp::model_config name __VA_ARGS__; \
  const std::string name##_source = one_space(#__VA_ARGS__)

std::string one_space(const std::string& text) {
  std::string all;
  for (const char c : text) {
    if (c != ' ' || all.empty() || all.back() != ' ') all += c;
  }
  return all;
}

CONFIG_AND_SOURCE(
    smallest,
    {.vocab_size = 49152,
     .hidden_size = 576,
     .num_hidden_layers = 30,
     .max_position_embeddings = 8192,
     .rms_norm_eps = 1e-05f,
     .attention = {.num_attention_heads = 9, .num_key_value_heads = 3, .head_dim = 64},
     .feed_forward = {.intermediate_size = 1536},
     .tie_word_embeddings = true});

CONFIG_AND_SOURCE(largest,
                  {.vocab_size = 10,
                   .hidden_size = 8,
                   .num_hidden_layers = 2,
                   .max_position_embeddings = 64,
                   .rms_norm_eps = 0.25f,
                   .attention = {.num_attention_heads = 2,
                                 .num_key_value_heads = 1,
                                 .head_dim = 4,
                                 .rope_theta = 5e+05f,
                                 .rope_scaling = {.kind = mtp::rope_scaling_kind::yarn,
                                                  .factor = 4.0f,
                                                  .original_max_position_embeddings = 16,
                                                  .low_freq_factor = 2.0f,
                                                  .high_freq_factor = 8.0f,
                                                  .beta_fast = 16.0f,
                                                  .beta_slow = 2.0f,
                                                  .attention_factor = 1.5f},
                                 .qkv_bias = true,
                                 .qk_norm = true},
                   .feed_forward = {.kind = mtp::feed_forward_kind::mixture_of_experts,
                                    .intermediate_size = 12,
                                    .first_k_dense_replace = 1,
                                    .n_routed_experts = 8,
                                    .num_experts_per_tok = 2,
                                    .moe_intermediate_size = 16,
                                    .n_shared_experts = 1,
                                    .n_group = 4,
                                    .topk_group = 2,
                                    .norm_topk_prob = false,
                                    .routed_scaling_factor = 2.5f,
                                    .scoring_func = mtp::scoring_function::softmax,
                                    .e_score_correction_bias = false},
                   .prediction = {.kind = mtp::head_kind::sequential,
                                  .depth = 2,
                                  .concat = mtp::concat_order::embedding_first,
                                  .hidden_tap = mtp::norm_tap::pre_norm,
                                  .recycle_tap = mtp::norm_tap::pre_norm,
                                  .chain = mtp::chain_input::target_hidden,
                                  .output_norm = mtp::output_norm_kind::shared},
                   .tie_word_embeddings = true});

CONFIG_AND_SOURCE(experts,
                  {.vocab_size = 10,
                   .hidden_size = 32,
                   .num_hidden_layers = 2,
                   .max_position_embeddings = 64,
                   .rms_norm_eps = 0.25f,
                   .attention = {.kind = mtp::attention_kind::multi_head_latent,
                                 .num_attention_heads = 2,
                                 .num_key_value_heads = 2,
                                 .rope_scaling = {.kind = mtp::rope_scaling_kind::yarn,
                                                  .factor = 4.0f,
                                                  .original_max_position_embeddings = 16,
                                                  .attention_factor = 1.0f,
                                                  .mscale_all_dim = 0.5f},
                                 .q_lora_rank = 12,
                                 .kv_lora_rank = 16,
                                 .qk_nope_head_dim = 32,
                                 .qk_rope_head_dim = 4,
                                 .v_head_dim = 64,
                                 .lora_norm_eps = 1e-06f},
                   .feed_forward = {.kind = mtp::feed_forward_kind::mixture_of_experts,
                                    .intermediate_size = 12,
                                    .first_k_dense_replace = 1,
                                    .n_routed_experts = 8,
                                    .num_experts_per_tok = 3,
                                    .moe_intermediate_size = 16,
                                    .n_shared_experts = 1,
                                    .n_group = 4,
                                    .topk_group = 2,
                                    .norm_topk_prob = false,
                                    .routed_scaling_factor = 2.5f,
                                    .scoring_func = mtp::scoring_function::softmax,
                                    .e_score_correction_bias = false}});

}  // namespace

TEST_CASE("a literal is the source of its configuration") {
  CHECK(mtp::io::config_literal(smallest) == smallest_source);
  CHECK(mtp::io::config_literal(largest) == largest_source);
  CHECK(mtp::io::config_literal(experts) == experts_source);
}

}  // namespace mtp::test::io_pretrained_config_literal_cases
