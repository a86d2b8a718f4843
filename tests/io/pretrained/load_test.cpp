// Checkpoints that transformers wrote: configuration, every tensor and the logits.
#include "mtp/io/pretrained/load.hpp"

#include <doctest/doctest.h>

#include "io/pretrained/models.hpp"

namespace mtp::test::io_pretrained_load_cases {

namespace {

using mtp::testing::check_model;

constexpr mtp::model_config sizes{
    .vocab_size = 64,
    .hidden_size = 32,
    .num_hidden_layers = 2,
    .max_position_embeddings = 64,
    .rms_norm_eps = 1e-5f,
    .attention = {.num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 8},
    .feed_forward = {.intermediate_size = 48}};

/// Both sides round to f32 in two blocks, in sums of 32 to 48 elements: some 30 roundings of 2^-24.
/// A wrong tensor changes the logits by a tenth, rotary frequencies rounded to bf16 by 8e-4.
constexpr double tolerance = 3e-6;

constexpr auto llama = [] {
  auto config = sizes;
  config.attention.rope_scaling = {.kind = mtp::rope_scaling_kind::llama3,
                                   .factor = 8,
                                   .original_max_position_embeddings = 32,
                                   .low_freq_factor = 1,
                                   .high_freq_factor = 4};
  return config;
}();
constexpr auto smollm2 = [] {
  auto config = sizes;
  config.tie_word_embeddings = true;
  return config;
}();
constexpr auto qwen2 = [] {
  auto config = sizes;
  config.attention.qkv_bias = true;
  return config;
}();
constexpr auto qwen3 = [] {
  auto config = smollm2;
  config.attention.head_dim = 16;
  config.attention.qk_norm = true;
  config.attention.rope_scaling = {.kind = mtp::rope_scaling_kind::yarn,
                                   .factor = 4,
                                   .original_max_position_embeddings = 16,
                                   .beta_fast = 4,
                                   .beta_slow = 0.5f};
  return config;
}();
constexpr auto glm4 = [] {
  auto config = sizes;
  config.attention.partial_rotary_factor = 0.5f;
  config.attention.qkv_bias = true;
  config.attention.post_norm = true;
  config.feed_forward.post_norm = true;
  return config;
}();

}  // namespace

TEST_CASE("Llama in f32 with llama3 scaling has the logits of transformers") {
  check_model<llama>("llama", 3 + 2 * 9, tolerance);
}
TEST_CASE("SmolLM2 in bf16 with tied embeddings has the logits of transformers") {
  check_model<smollm2>("smollm2", 2 + 2 * 9, tolerance);
}
TEST_CASE("Mistral in f16 has the logits of transformers") {
  check_model<sizes>("mistral", 3 + 2 * 9, tolerance);
}
TEST_CASE("Qwen2 with biases in three shards has the logits of transformers") {
  check_model<qwen2>("qwen2", 3 + 2 * 12, tolerance);
}
TEST_CASE("Qwen3 with QK-norm and yarn scaling has the logits of transformers") {
  check_model<qwen3>("qwen3", 2 + 2 * 11, tolerance);
}

TEST_CASE(
    "GLM-4 with half of each head rotated and norms behind layers has the logits of transformers") {
  check_model<glm4>("glm4", 3 + 2 * 13, tolerance);
}

}  // namespace mtp::test::io_pretrained_load_cases
