// A trained model of another program, in names and a layout that only this test knows.
#include <array>
#include <doctest/doctest.h>
#include <vector>

#include "io/pretrained/models.hpp"
#include "io/scratch.hpp"
#include "mtp/decode/generate.hpp"
#include "mtp/io/pretrained/families.hpp"
#include "mtp/io/pretrained/read_config.hpp"
#include "mtp/io/pretrained/save.hpp"

namespace mtp::test::io_pretrained_glassllm_cases {

namespace {

using enum mtp::io::tensor_part;
using mtp::testing::pretrained_data;
constexpr auto transposed = mtp::io::matrix_order::inputs_by_outputs;

// What a program writes for a family that the library does not know.
constexpr std::array<mtp::io::name_rule, 9> block{{
    {"norm1.gamma", "input_layernorm.weight"},
    {"attn.W_Q", "self_attn.qkv_proj.weight", queries, transposed},
    {"attn.W_K", "self_attn.qkv_proj.weight", keys, transposed},
    {"attn.W_V", "self_attn.qkv_proj.weight", values, transposed},
    {"attn.W_O", "self_attn.o_proj.weight", whole, transposed},
    {"norm2.gamma", "post_attention_layernorm.weight"},
    {"ffn.W1", "mlp.gate_up_proj.weight", gate, transposed},
    {"ffn.W3", "mlp.gate_up_proj.weight", up, transposed},
    {"ffn.W2", "mlp.down_proj.weight", whole, transposed},
}};
constexpr std::array<mtp::io::name_rule, 2> rules{
    {{"E", "embed_tokens.weight"}, {"norm_f.gamma", "norm.weight"}}};
constexpr std::array<mtp::io::block_rule, 1> blocks{{{"blocks.{}.", "layers.{}."}}};
constexpr mtp::io::family_names glassllm{.name = "glassllm",
                                         .rules = rules,
                                         .blocks = blocks,
                                         .block = block,
                                         .pairs = mtp::io::rotary_pairs::interleaved};

constexpr mtp::model_config config{
    .vocab_size = 1024,
    .hidden_size = 128,
    .num_hidden_layers = 4,
    .max_position_embeddings = 128,
    .rms_norm_eps = 1e-6f,
    .attention = {.num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 32},
    .feed_forward = {.intermediate_size = 341},
    .tie_word_embeddings = true};

}  // namespace

TEST_CASE("a trained model has the logits of its own program and writes the same tokens") {
  CHECK(mtp::io::read_config(pretrained_data("glassllm")).config == config);
  mtp::context<mtp::cpu> context;
  mtp::language_model<config, mtp::cpu> model(context, mtp::seed{1}), again(context, {2});
  CHECK(mtp::io::load_pretrained(pretrained_data("glassllm") / "model.safetensors", model, glassllm)
            .tensors == 2 + 4 * 9);
  CHECK(mtp::testing::logits_error(context, model, "glassllm") < 3e-6);

  auto prompt = mtp::testing::expected<mtp::token_t>("glassllm", "tokens");
  prompt.resize(8);
  const auto written = mtp::testing::expected<mtp::token_t>("glassllm", "written");
  mtp::generator<config, mtp::cpu> generator(context, model);
  CHECK(generator.generate(prompt, {.max_new_tokens = 100}).tokens == written);

  // In Llama's names it is a checkpoint of Llama.
  const mtp::testing::scratch_directory scratch;
  mtp::io::save_parameters(scratch.path(), model, mtp::io::llama_names);
  CHECK(mtp::io::load_pretrained(scratch.path(), again, mtp::io::llama_names).has_head());
  CHECK(mtp::testing::logits_error(context, again, "glassllm") < 3e-6);
}

}  // namespace mtp::test::io_pretrained_glassllm_cases
