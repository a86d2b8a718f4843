// The families of checkpoints that the library knows by name.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

#include "mtp/io/pretrained/names.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

using enum tensor_part;

/// Two tables, one behind the other.
template <std::size_t First, std::size_t Second>
constexpr std::array<name_rule, First + Second> joined(
    const std::array<name_rule, First>& first, const std::array<name_rule, Second>& second) {
  std::array<name_rule, First + Second> all{};
  std::copy(first.begin(), first.end(), all.begin());
  std::copy(second.begin(), second.end(), all.begin() + First);
  return all;
}

/// What a block of Llama has beside its feed-forward layer.
inline constexpr std::array<name_rule, 11> llama_attention{{
    {"input_layernorm.weight", "input_layernorm.weight"},
    {"self_attn.q_proj.weight", "self_attn.qkv_proj.weight", queries},
    {"self_attn.k_proj.weight", "self_attn.qkv_proj.weight", keys},
    {"self_attn.v_proj.weight", "self_attn.qkv_proj.weight", values},
    {"self_attn.q_proj.bias", "self_attn.qkv_proj.bias", queries},
    {"self_attn.k_proj.bias", "self_attn.qkv_proj.bias", keys},
    {"self_attn.v_proj.bias", "self_attn.qkv_proj.bias", values},
    {"self_attn.q_norm.weight", "self_attn.q_norm.weight", head},
    {"self_attn.k_norm.weight", "self_attn.k_norm.weight", head},
    {"self_attn.o_proj.weight", "self_attn.o_proj.weight"},
    {"post_attention_layernorm.weight", "post_attention_layernorm.weight"},
}};
/// SwiGLU in the names of transformers.
inline constexpr std::array<name_rule, 3> dense_feed_forward{{
    {"mlp.gate_proj.weight", "mlp.gate_up_proj.weight", gate},
    {"mlp.up_proj.weight", "mlp.gate_up_proj.weight", up},
    {"mlp.down_proj.weight", "mlp.down_proj.weight"},
}};
/// A block of Llama, Mistral, Qwen2 (with biases) and Qwen3 (with QK-norm).
inline constexpr auto llama_block = joined(llama_attention, dense_feed_forward);

/// A block of GLM-4: with biases or without, and with a norm behind each layer.
inline constexpr std::array<name_rule, 13> glm4_block{{
    {"input_layernorm.weight", "input_layernorm.weight"},
    {"self_attn.q_proj.weight", "self_attn.qkv_proj.weight", queries},
    {"self_attn.k_proj.weight", "self_attn.qkv_proj.weight", keys},
    {"self_attn.v_proj.weight", "self_attn.qkv_proj.weight", values},
    {"self_attn.q_proj.bias", "self_attn.qkv_proj.bias", queries},
    {"self_attn.k_proj.bias", "self_attn.qkv_proj.bias", keys},
    {"self_attn.v_proj.bias", "self_attn.qkv_proj.bias", values},
    {"self_attn.o_proj.weight", "self_attn.o_proj.weight"},
    {"post_self_attn_layernorm.weight", "post_self_attn_layernorm.weight"},
    {"post_attention_layernorm.weight", "post_attention_layernorm.weight"},
    {"mlp.gate_up_proj.weight", "mlp.gate_up_proj.weight"},
    {"mlp.down_proj.weight", "mlp.down_proj.weight"},
    {"post_mlp_layernorm.weight", "post_mlp_layernorm.weight"},
}};

/// A block in the names of Meta's own programs.
inline constexpr std::array<name_rule, 9> meta_block{{
    {"attention_norm.weight", "input_layernorm.weight"},
    {"attention.wq.weight", "self_attn.qkv_proj.weight", queries},
    {"attention.wk.weight", "self_attn.qkv_proj.weight", keys},
    {"attention.wv.weight", "self_attn.qkv_proj.weight", values},
    {"attention.wo.weight", "self_attn.o_proj.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"feed_forward.w1.weight", "mlp.gate_up_proj.weight", gate},
    {"feed_forward.w3.weight", "mlp.gate_up_proj.weight", up},
    {"feed_forward.w2.weight", "mlp.down_proj.weight"},
}};

/// Experts of DeepSeek-V3, and what all tokens share.
inline constexpr std::array<name_rule, 8> deepseek_experts{{
    {"mlp.gate.weight", "mlp.gate.weight"},
    {"mlp.gate.e_score_correction_bias", "mlp.gate.e_score_correction_bias"},
    {"mlp.experts.{e}.gate_proj.weight", "mlp.experts.gate_up_proj", expert_gate},
    {"mlp.experts.{e}.up_proj.weight", "mlp.experts.gate_up_proj", expert_up},
    {"mlp.experts.{e}.down_proj.weight", "mlp.experts.down_proj", expert},
    {"mlp.shared_experts.gate_proj.weight", "mlp.shared_experts.gate_up_proj.weight", gate},
    {"mlp.shared_experts.up_proj.weight", "mlp.shared_experts.gate_up_proj.weight", up},
    {"mlp.shared_experts.down_proj.weight", "mlp.shared_experts.down_proj.weight"},
}};
/// Those of Mixtral.
inline constexpr std::array<name_rule, 4> mixtral_experts{{
    {"block_sparse_moe.gate.weight", "mlp.gate.weight"},
    {"block_sparse_moe.experts.{e}.w1.weight", "mlp.experts.gate_up_proj", expert_gate},
    {"block_sparse_moe.experts.{e}.w3.weight", "mlp.experts.gate_up_proj", expert_up},
    {"block_sparse_moe.experts.{e}.w2.weight", "mlp.experts.down_proj", expert},
}};

/// What a block has beside its feed-forward layer, with the latent attention of DeepSeek-V2 and V3.
inline constexpr std::array<name_rule, 11> latent_attention{{
    {"input_layernorm.weight", "input_layernorm.weight"},
    {"self_attn.q_proj.weight", "self_attn.q_proj.weight", latent_queries},
    {"self_attn.q_a_proj.weight", "self_attn.q_a_proj.weight"},
    {"self_attn.q_a_layernorm.weight", "self_attn.q_a_layernorm.weight"},
    {"self_attn.q_b_proj.weight", "self_attn.q_b_proj.weight", latent_queries},
    {"self_attn.kv_a_proj_with_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight", latent_keys},
    {"self_attn.kv_a_layernorm.weight", "self_attn.kv_a_layernorm.weight"},
    {"self_attn.kv_b_proj.weight", "self_attn.k_up_proj.weight", keys_up},
    {"self_attn.kv_b_proj.weight", "self_attn.v_up_proj.weight", values_up},
    {"self_attn.o_proj.weight", "self_attn.o_proj.weight"},
    {"post_attention_layernorm.weight", "post_attention_layernorm.weight"},
}};
/// Blocks of DeepSeek-V3; of GLM-4.5 and Qwen3-MoE; of Mixtral.
inline constexpr auto deepseek_v3_block =
    joined(joined(latent_attention, dense_feed_forward), deepseek_experts);
inline constexpr auto glm4_moe_block = joined(llama_block, deepseek_experts);
inline constexpr auto mixtral_block = joined(llama_attention, mixtral_experts);

inline constexpr std::array<name_rule, 3> llama_rules{{
    {"model.embed_tokens.weight", "embed_tokens.weight"},
    {"model.norm.weight", "norm.weight"},
    {"lm_head.weight", "lm_head.weight"},
}};
inline constexpr std::array<name_rule, 7> deepseek_rules{{
    llama_rules[0],
    llama_rules[1],
    llama_rules[2],
    {"model.layers.{+}.enorm.weight", "mtp.{}.enorm.weight"},
    {"model.layers.{+}.hnorm.weight", "mtp.{}.hnorm.weight"},
    {"model.layers.{+}.eh_proj.weight", "mtp.{}.eh_proj.weight", projection},
    {"model.layers.{+}.shared_head.norm.weight", "mtp.{}.norm.weight"},
}};
/// The trunk of a model that reads pictures as well.
inline constexpr std::array<name_rule, 7> glm_ocr_rules{{
    {"model.language_model.embed_tokens.weight", "embed_tokens.weight"},
    {"model.language_model.norm.weight", "norm.weight"},
    {"lm_head.weight", "lm_head.weight"},
    {"model.language_model.layers.{+}.enorm.weight", "mtp.{}.enorm.weight"},
    {"model.language_model.layers.{+}.hnorm.weight", "mtp.{}.hnorm.weight"},
    {"model.language_model.layers.{+}.eh_proj.weight", "mtp.{}.eh_proj.weight", projection},
    {"model.language_model.layers.{+}.shared_head.norm.weight", "mtp.{}.norm.weight"},
}};
inline constexpr std::array<name_rule, 7> mimo_rules{{
    llama_rules[0],
    llama_rules[1],
    llama_rules[2],
    {"model.mtp_layers.{}.token_layernorm.weight", "mtp.{}.enorm.weight"},
    {"model.mtp_layers.{}.hidden_layernorm.weight", "mtp.{}.hnorm.weight"},
    {"model.mtp_layers.{}.input_proj.weight", "mtp.{}.eh_proj.weight", projection},
    {"model.mtp_layers.{}.final_layernorm.weight", "mtp.{}.norm.weight"},
}};
inline constexpr std::array<name_rule, 7> mimo_v2_rules{{
    llama_rules[0],
    llama_rules[1],
    llama_rules[2],
    {"model.mtp.layers.{}.enorm.weight", "mtp.{}.enorm.weight"},
    {"model.mtp.layers.{}.hnorm.weight", "mtp.{}.hnorm.weight"},
    {"model.mtp.layers.{}.eh_proj.weight", "mtp.{}.eh_proj.weight", projection},
    {"model.mtp.layers.{}.final_layernorm.weight", "mtp.{}.norm.weight"},
}};
/// The block of a module of MiMo-V2 calls its second norm otherwise than the trunk's blocks do.
inline constexpr auto mimo_v2_module = [] {
  auto block = llama_block;
  for (name_rule& rule : block) {
    if (rule.file == "post_attention_layernorm.weight") rule.file = "pre_mlp_layernorm.weight";
  }
  return block;
}();
inline constexpr std::array<name_rule, 6> medusa_rules{{
    llama_rules[0],
    llama_rules[1],
    llama_rules[2],
    {"medusa_head.{}.0.linear.weight", "mtp.{}.residual.weight"},
    {"medusa_head.{}.0.linear.bias", "mtp.{}.residual.bias"},
    {"medusa_head.{}.1.weight", "mtp.{}.lm_head.weight"},
}};
inline constexpr std::array<name_rule, 3> meta_rules{{
    {"tok_embeddings.weight", "embed_tokens.weight"},
    {"norm.weight", "norm.weight"},
    {"output.weight", "lm_head.weight"},
}};

inline constexpr std::array<block_rule, 1> llama_blocks{{{"model.layers.{}.", "layers.{}."}}};
inline constexpr std::array<block_rule, 2> deepseek_blocks{
    {llama_blocks[0], {"model.layers.{+}.", "mtp.{}.block."}}};
inline constexpr std::array<block_rule, 2> glm_ocr_blocks{
    {{"model.language_model.layers.{}.", "layers.{}."},
     {"model.language_model.layers.{+}.", "mtp.{}.block."}}};
inline constexpr std::array<block_rule, 2> mimo_blocks{
    {llama_blocks[0], {"model.mtp_layers.{}.", "mtp.{}.block."}}};
inline constexpr std::array<block_rule, 2> mimo_v2_blocks{
    {llama_blocks[0], {"model.mtp.layers.{}.", "mtp.{}.block.", mimo_v2_module}}};
inline constexpr std::array<block_rule, 2> meta_blocks{
    {{"layers.{}.", "layers.{}."}, {"extra_heads.{}.", "mtp.{}.block."}}};

/// Programs of transformers neither write nor want lm_head.weight of tied embeddings.
inline constexpr std::array<copy_rule, 1> llama_copies{
    {{"lm_head.weight", copy_source::embedding, copy_use::read_only}}};
inline constexpr std::array<copy_rule, 3> deepseek_copies{{
    llama_copies[0],
    {"model.layers.{+}.embed_tokens.weight", copy_source::embedding},
    {"model.layers.{+}.shared_head.head.weight", copy_source::output},
}};
inline constexpr std::array<copy_rule, 3> glm_ocr_copies{{
    llama_copies[0],
    {"model.language_model.layers.{+}.embed_tokens.weight", copy_source::embedding},
    {"model.language_model.layers.{+}.shared_head.head.weight", copy_source::output},
}};
inline constexpr std::array<copy_rule, 1> meta_copies{
    {{"output.weight", copy_source::embedding, copy_use::read_only}}};

/// Tables of the rotation, which old checkpoints hold.
inline constexpr std::array<std::string_view, 2> rotary_tables{"rotary_emb.inv_freq", "rope.freqs"};

}  // namespace detail

/// Llama, SmolLM2, Mistral, Qwen2 and Qwen3: a trunk in the names of transformers.
inline constexpr family_names llama_names{.name = "llama",
                                          .rules = detail::llama_rules,
                                          .blocks = detail::llama_blocks,
                                          .block = detail::llama_block,
                                          .copies = detail::llama_copies,
                                          .ignored = detail::rotary_tables};

/// The same trunk with the modules of DeepSeek-V3 behind its last block, as blocks L, L + 1, ...
/// (README_WEIGHTS.md of DeepSeek-V3). Each has a copy of embedding and output matrix.
inline constexpr family_names deepseek_names{.name = "deepseek_mtp",
                                             .rules = detail::deepseek_rules,
                                             .blocks = detail::deepseek_blocks,
                                             .block = detail::llama_block,
                                             .copies = detail::deepseek_copies,
                                             .concat = concat_order::embedding_first,
                                             .ignored = detail::rotary_tables};

/// DeepSeek-V3, R1 and V3.1, and GLM-4.7-Flash: latent attention, whose rotated pairs stand side by
/// side, and experts, each of which has tensors of its own.
inline constexpr family_names deepseek_v3_names{.name = "deepseek_v3",
                                                .rules = detail::deepseek_rules,
                                                .blocks = detail::deepseek_blocks,
                                                .block = detail::deepseek_v3_block,
                                                .copies = detail::deepseek_copies,
                                                .pairs = rotary_pairs::interleaved,
                                                .concat = concat_order::embedding_first,
                                                .ignored = detail::rotary_tables};

/// GLM-4.5 and Qwen3-MoE: the attention of Qwen, experts in DeepSeek's names. A head has these,
/// too.
inline constexpr family_names glm4_moe_names{.name = "glm4_moe",
                                             .rules = detail::deepseek_rules,
                                             .blocks = detail::deepseek_blocks,
                                             .block = detail::glm4_moe_block,
                                             .copies = detail::deepseek_copies,
                                             .concat = concat_order::embedding_first,
                                             .ignored = detail::rotary_tables};

/// Mixtral: the attention of Mistral, and experts.
inline constexpr family_names mixtral_names{.name = "mixtral",
                                            .rules = detail::llama_rules,
                                            .blocks = detail::llama_blocks,
                                            .block = detail::mixtral_block,
                                            .copies = detail::llama_copies,
                                            .ignored = detail::rotary_tables};

/// GLM-4, dense: pairs that are rotated stand side by side. A head has DeepSeek's names.
inline constexpr family_names glm4_names{.name = "glm4",
                                         .rules = detail::deepseek_rules,
                                         .blocks = detail::deepseek_blocks,
                                         .block = detail::glm4_block,
                                         .copies = detail::deepseek_copies,
                                         .pairs = rotary_pairs::interleaved,
                                         .concat = concat_order::embedding_first,
                                         .ignored = detail::rotary_tables};

/// The language model of GLM-OCR, without what reads pictures.
inline constexpr family_names glm_ocr_names{.name = "glm_ocr",
                                            .rules = detail::glm_ocr_rules,
                                            .blocks = detail::glm_ocr_blocks,
                                            .block = detail::glm4_block,
                                            .copies = detail::glm_ocr_copies,
                                            .pairs = rotary_pairs::interleaved,
                                            .concat = concat_order::embedding_first,
                                            .ignored = detail::rotary_tables};

/// MiMo-7B: Qwen2's trunk and modules beside it, whose projection reads the hidden state first.
inline constexpr family_names mimo_names{.name = "mimo",
                                         .rules = detail::mimo_rules,
                                         .blocks = detail::mimo_blocks,
                                         .block = detail::llama_block,
                                         .copies = detail::llama_copies,
                                         .concat = concat_order::hidden_first,
                                         .ignored = detail::rotary_tables};

/// MiMo-V2 (Flash, Pro and 2.5), as far as its blocks are those of Llama: modules that each read
/// the trunk's hidden state (sgl-project/sglang-jax#1256).
inline constexpr family_names mimo_v2_names{.name = "mimo_v2",
                                            .rules = detail::mimo_v2_rules,
                                            .blocks = detail::mimo_v2_blocks,
                                            .block = detail::llama_block,
                                            .copies = detail::llama_copies,
                                            .concat = concat_order::embedding_first,
                                            .chain = chain_input::target_hidden,
                                            .ignored = detail::rotary_tables};

/// A trunk of transformers with Medusa's heads beside it.
inline constexpr family_names medusa_names{.name = "medusa",
                                           .rules = detail::medusa_rules,
                                           .blocks = detail::llama_blocks,
                                           .block = detail::llama_block,
                                           .copies = detail::llama_copies,
                                           .ignored = detail::rotary_tables};

/// Meta's multi-token prediction (Gloeckle et al. 2024, arXiv 2404.19737): the last block is head
/// 1, the others are extra_heads; rotated pairs stand side by side.
inline constexpr family_names meta_names{.name = "meta_mtp",
                                         .rules = detail::meta_rules,
                                         .blocks = detail::meta_blocks,
                                         .block = detail::meta_block,
                                         .copies = detail::meta_copies,
                                         .pairs = rotary_pairs::interleaved,
                                         .ignored = detail::rotary_tables};

}  // namespace mtp::inline MTP_ABI::io
