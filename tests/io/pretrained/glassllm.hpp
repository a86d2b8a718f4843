// A trained model of another program: its names, its layout and its configuration.
#pragma once

#include <array>

#include "mtp/io/pretrained/families.hpp"
#include "mtp/model/model_config.hpp"

namespace mtp::testing::glassllm {

using enum mtp::io::tensor_part;
inline constexpr auto transposed = mtp::io::matrix_order::inputs_by_outputs;

// What a program writes for a family that the library does not know.
inline constexpr std::array<mtp::io::name_rule, 9> block{{
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
inline constexpr std::array<mtp::io::name_rule, 2> rules{
    {{"E", "embed_tokens.weight"}, {"norm_f.gamma", "norm.weight"}}};
inline constexpr std::array<mtp::io::block_rule, 1> blocks{{{"blocks.{}.", "layers.{}."}}};
inline constexpr mtp::io::family_names names{.name = "glassllm",
                                             .rules = rules,
                                             .blocks = blocks,
                                             .block = block,
                                             .pairs = mtp::io::rotary_pairs::interleaved};

inline constexpr mtp::model_config config{
    .vocab_size = 1024,
    .hidden_size = 128,
    .num_hidden_layers = 4,
    .max_position_embeddings = 128,
    .rms_norm_eps = 1e-6f,
    .attention = {.num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 32},
    .feed_forward = {.intermediate_size = 341},
    .tie_word_embeddings = true};

}  // namespace mtp::testing::glassllm
