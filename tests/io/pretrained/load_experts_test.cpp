// Checkpoints of mixtures of experts and of latent attention that transformers wrote.
#include <doctest/doctest.h>

#include "io/pretrained/models.hpp"
#include "mtp/model/model_config.hpp"

namespace mtp::test::io_pretrained_load_experts_cases {

namespace {

using mtp::testing::check_model;

constexpr mtp::model_config sizes{
    .vocab_size = 64,
    .hidden_size = 32,
    .num_hidden_layers = 2,
    .max_position_embeddings = 64,
    .rms_norm_eps = 1e-5f,
    .attention = {.num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 8},
    .feed_forward = {.kind = mtp::feed_forward_kind::mixture_of_experts,
                     .intermediate_size = 48,
                     .n_routed_experts = 8,
                     .num_experts_per_tok = 3,
                     .moe_intermediate_size = 16}};

/// As in load_test.cpp: some 30 roundings of f32. Experts that are all but equally good change
/// places for less, which would change the logits by a tenth; the seed has none.
constexpr double tolerance = 3e-6;

constexpr auto routed = [] {
  auto config = sizes;
  auto& layer = config.feed_forward;
  layer.n_shared_experts = 2;
  layer.routed_scaling_factor = 1.5f;
  layer.norm_topk_prob = true;
  layer.scoring_func = mtp::scoring_function::sigmoid;
  layer.e_score_correction_bias = true;
  layer.first_k_dense_replace = 1;
  return config;
}();
constexpr auto with_module = [](mtp::model_config config) {
  config.prediction = {
      .kind = mtp::head_kind::sequential, .depth = 1, .concat = mtp::concat_order::embedding_first};
  return config;
};
constexpr auto latent = [](mtp::model_config config) {
  config.attention = {.kind = mtp::attention_kind::multi_head_latent,
                      .num_attention_heads = 2,
                      .kv_lora_rank = 24,
                      .qk_nope_head_dim = 32,
                      .qk_rope_head_dim = 8,
                      .v_head_dim = 32,
                      .lora_norm_eps = 1e-6f};
  return config;
};

constexpr auto deepseek_v3 = [] {
  auto config = with_module(latent(routed));
  config.attention.q_lora_rank = 20;
  config.attention.rope_scaling = {.kind = mtp::rope_scaling_kind::yarn,
                                   .factor = 4,
                                   .original_max_position_embeddings = 16,
                                   .beta_fast = 4,
                                   .beta_slow = 0.5f,
                                   .attention_factor = 1.03791002f,  // m(1) / m(0.7)
                                   .mscale_all_dim = 0.7f};
  config.feed_forward.n_group = 4;
  config.feed_forward.topk_group = 2;
  return mtp::resolved(config);
}();
constexpr auto glm4_moe_lite = [] {
  auto config = latent(routed);
  config.attention.v_head_dim = 64;
  config.feed_forward.norm_topk_prob = false;
  return mtp::resolved(config);
}();
constexpr auto glm4_moe = [] {
  auto config = with_module(routed);
  config.attention.qkv_bias = true;
  config.attention.qk_norm = true;
  config.attention.partial_rotary_factor = 0.5f;
  return config;
}();
constexpr auto softmax = [] {
  auto config = sizes;
  config.feed_forward.norm_topk_prob = true;
  config.feed_forward.scoring_func = mtp::scoring_function::softmax;
  config.feed_forward.e_score_correction_bias = false;
  return config;
}();
constexpr auto qwen3_moe = [] {
  auto config = softmax;
  config.attention.qk_norm = true;
  return config;
}();
constexpr auto mixtral = [] {
  auto config = softmax;
  config.attention.rope_theta = 1000000;
  config.feed_forward.intermediate_size = 16;
  config.feed_forward.num_experts_per_tok = 2;
  return config;
}();

}  // namespace

// Tensors: 2 norms of a block, those of attention, and 3 of a dense layer or of each expert; a gate
// with its bias, and 3 of shared experts; 4 more of a module.
TEST_CASE("DeepSeek-V3 and its module have the logits of transformers") {
  check_model<deepseek_v3>("deepseek_v3", 3 + 3 * (2 + 7) + 3 + 2 * (3 * 8 + 5) + 4, tolerance);
}
TEST_CASE("GLM-4.7-Flash without a low rank of queries has the logits of transformers") {
  check_model<glm4_moe_lite>("glm4_moe_lite", 3 + 2 * (2 + 5) + 3 + 3 * 8 + 5, tolerance);
}
TEST_CASE("GLM-4.5 and its module have the logits of transformers") {
  check_model<glm4_moe>("glm4_moe", 3 + 3 * (2 + 9) + 3 + 2 * (3 * 8 + 5) + 4, tolerance);
}
TEST_CASE("Qwen3-MoE has the logits of transformers") {
  check_model<qwen3_moe>("qwen3_moe", 3 + 2 * (2 + 6 + 3 * 8 + 1), tolerance);
}
TEST_CASE("Mixtral has the logits of transformers") {
  check_model<mixtral>("mixtral", 3 + 2 * (2 + 4 + 3 * 8 + 1), tolerance);
}

}  // namespace mtp::test::io_pretrained_load_experts_cases
