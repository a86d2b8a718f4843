// Checkpoints of mixtures of experts and of latent attention: what is saved is loaded again.
#include <doctest/doctest.h>

#include "io/pretrained/saved.hpp"
#include "mtp/io/pretrained/families.hpp"
#include "mtp/model/model_config.hpp"

namespace mtp::test::io_pretrained_save_experts_cases {

namespace {

using mtp::testing::check_family;

constexpr mtp::model_config sizes{
    .vocab_size = 11,
    .hidden_size = 32,
    .num_hidden_layers = 2,
    .max_position_embeddings = 8,
    .attention = {.num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 4},
    .feed_forward = {.kind = mtp::feed_forward_kind::mixture_of_experts,
                     .intermediate_size = 5,
                     .n_routed_experts = 3,
                     .num_experts_per_tok = 2,
                     .moe_intermediate_size = 16}};

constexpr auto routed = [] {
  auto config = sizes;
  config.feed_forward.n_shared_experts = 1;
  config.feed_forward.scoring_func = mtp::scoring_function::sigmoid;
  config.feed_forward.e_score_correction_bias = true;
  config.feed_forward.first_k_dense_replace = 1;
  config.prediction = {.kind = mtp::head_kind::sequential, .depth = 1};  // hidden_first
  return config;
}();
constexpr auto latent = [] {
  auto config = routed;
  config.attention = {.kind = mtp::attention_kind::multi_head_latent,
                      .num_attention_heads = 2,
                      .q_lora_rank = 7,
                      .kv_lora_rank = 5,
                      .qk_nope_head_dim = 32,
                      .qk_rope_head_dim = 6,
                      .v_head_dim = 64};
  return config;
}();
constexpr auto latent_without_rank = [] {
  auto config = latent;
  config.attention.q_lora_rank = 0;
  return config;
}();
constexpr auto partial = [] {
  auto config = routed;
  config.attention.head_dim = 8;
  config.attention.partial_rotary_factor = 0.5f;
  config.attention.qkv_bias = true;
  config.attention.qk_norm = true;
  return config;
}();
constexpr auto softmax = [] {
  auto config = sizes;
  config.feed_forward.scoring_func = mtp::scoring_function::softmax;
  config.feed_forward.e_score_correction_bias = false;
  return config;
}();

}  // namespace

TEST_CASE("DeepSeek-V3: every tensor matters, and is written as it was read") {
  // Of the module embedding and output matrix; perturbing an original is refused as well.
  CHECK(check_family<latent>(mtp::io::deepseek_v3_names) == 2 + 2);
  CHECK(check_family<latent_without_rank>(mtp::io::deepseek_v3_names) == 2 + 2);
}
TEST_CASE("GLM-4.5, Qwen3-MoE and Mixtral: every tensor matters, and is written as it was read") {
  CHECK(check_family<partial>(mtp::io::glm4_moe_names) == 2 + 2);
  CHECK(check_family<softmax>(mtp::io::glm4_moe_names) == 0);
  CHECK(check_family<softmax>(mtp::io::mixtral_names) == 0);
}

TEST_CASE("rotated elements of latent attention stand side by side in a file") {
  const mtp::testing::scratch_directory scratch;
  mtp::context<mtp::cpu> context;
  mtp::language_model<latent_without_rank, mtp::cpu> model(context, mtp::seed{1});
  mtp::testing::number(model);
  mtp::io::save_parameters(scratch / "saved", model, mtp::io::deepseek_v3_names);
  const mtp::io::tensor_files files(scratch / "saved");
  const auto first_column = [&](const char* name, mtp::index_t rows) {
    const auto* const tensor = files.find(name);
    REQUIRE(tensor != nullptr);
    std::vector<float> all(static_cast<std::size_t>(tensor->info->count()));
    tensor->file->read(
        *tensor->info, 0, tensor->info->count(), reinterpret_cast<std::byte*>(all.data()));
    REQUIRE(tensor->info->shape == std::vector<mtp::index_t>{rows, 32});
    std::vector<float> column;
    for (mtp::index_t row = 0; row < rows; ++row) {
      column.push_back((all[static_cast<std::size_t>(row * 32)] - all[0]) / 32);
    }
    return column;
  };
  // Row by row, which row of the parameter it is: those in front as they are, then 0 3 1 4 2 5.
  const auto expected = [](mtp::index_t heads, mtp::index_t plain) {
    std::vector<float> rows;
    for (mtp::index_t h = 0; h < heads; ++h) {
      const auto begin = static_cast<float>(h * (plain + 6));
      for (mtp::index_t row = 0; row < plain; ++row)
        rows.push_back(begin + static_cast<float>(row));
      for (const float row : {0.0f, 3.0f, 1.0f, 4.0f, 2.0f, 5.0f}) {
        rows.push_back(begin + static_cast<float>(plain) + row);
      }
    }
    return rows;
  };
  CHECK(first_column("model.layers.0.self_attn.q_proj.weight", 2 * 38) == expected(2, 32));
  CHECK(first_column("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", 11) == expected(1, 5));
}

}  // namespace mtp::test::io_pretrained_save_experts_cases
