// Fields of a config.json that say which layers a block has.
#pragma once

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "mtp/core/error.hpp"
#include "mtp/io/pretrained/config_object.hpp"
#include "mtp/io/pretrained/trunk_types.hpp"
#include "mtp/model/config_fields.hpp"
#include "mtp/model/model_config.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// Attention with heads of keys and values; every size is written out.
inline void read_grouped_attention(const config_object& from,
                                   const trunk_type& type,
                                   model_config& config) {
  attention_config& to = config.attention;
  to.num_key_value_heads = type.needs_kv_heads ? from.needed_count("num_key_value_heads")
                                               : from.count("num_key_value_heads").value_or(0);
  to.head_dim =
      type.needs_head_dim ? from.needed_count("head_dim") : from.count("head_dim").value_or(0);
  to.qkv_bias = type.qkv_bias;
  if (type.bias_by_field) {
    check(from.has("attention_bias"), from.where(), ": attention_bias is missing");
    to.qkv_bias = from.flag("attention_bias", false);
  }
  to.qk_norm = type.qk_norm || (type.norm_by_field && from.flag("use_qk_norm", false));
  from.supports(to.head_dim > 0 || config.hidden_size % to.num_attention_heads == 0,
                "num_attention_heads",
                "it does not divide hidden_size, and head_dim is missing");
  config = resolved(config);
  from.supports(to.num_attention_heads % to.num_key_value_heads == 0,
                "num_key_value_heads",
                "it does not divide num_attention_heads");
  from.supports(to.head_dim > 0 && to.head_dim % 2 == 0, "head_dim", "heads are rotated in pairs");
}

/// Latent attention, as in DeepSeek-V3.
inline void read_latent_attention(const config_object& from, attention_config& to) {
  to.kind = attention_kind::multi_head_latent;
  to.q_lora_rank = from.count("q_lora_rank").value_or(0);
  to.kv_lora_rank = from.needed_count("kv_lora_rank");
  to.qk_nope_head_dim = from.needed_count("qk_nope_head_dim");
  to.qk_rope_head_dim = from.needed_count("qk_rope_head_dim");
  to.v_head_dim = from.needed_count("v_head_dim");
  to.lora_norm_eps = 1e-6f;  // in transformers, whatever rms_norm_eps is
  from.supports(
      from.count("num_key_value_heads").value_or(to.num_attention_heads) == to.num_attention_heads,
      "num_key_value_heads",
      "latent attention has as many as num_attention_heads");
  from.supports(to.qk_rope_head_dim % 2 == 0, "qk_rope_head_dim", "heads are rotated in pairs");
  for (const auto& [field, width] :
       {std::pair{"qk_nope_head_dim", to.qk_nope_head_dim}, {"v_head_dim", to.v_head_dim}}) {
    from.supports(width % 32 == 0, field, "it must be a multiple of 32");
  }
  from.supports(from.flag("rope_interleave", true),
                "rope_interleave",
                "pairs of rotated elements stand side by side");
}

/// How many first blocks are dense: first_k_dense_replace, or what mlp_layer_types lists.
inline int read_dense_blocks(const config_object& from, int blocks) {
  const nlohmann::json* const types = from.find("mlp_layer_types");
  if (types == nullptr) {
    const int dense = from.count_or_zero("first_k_dense_replace");
    from.supports(dense <= blocks, "first_k_dense_replace", "there are fewer blocks");
    return dense;
  }
  const auto is = [](const char* name) {
    return [name](const nlohmann::json& type) { return type == name; };
  };
  const auto sparse = std::find_if_not(types->begin(), types->end(), is("dense"));
  from.supports(types->is_array() && types->size() == static_cast<std::size_t>(blocks) &&
                    std::all_of(sparse, types->end(), is("sparse")),
                "mlp_layer_types",
                "expected \"dense\" for the first blocks, then \"sparse\" for the others");
  return static_cast<int>(sparse - types->begin());
}

/// The mixture of experts.
inline void read_experts(const config_object& from, const trunk_type& type, model_config& config) {
  if (type.experts == expert_fields::none) return;
  feed_forward_config& to = config.feed_forward;
  to.kind = feed_forward_kind::mixture_of_experts;
  to.num_experts_per_tok = from.needed_count("num_experts_per_tok");
  const char* experts = "n_routed_experts";
  if (type.experts == expert_fields::deepseek) {
    to.moe_intermediate_size = from.needed_count("moe_intermediate_size");
    to.n_shared_experts = from.count_or_zero("n_shared_experts");
    to.n_group = from.count("n_group").value_or(1);
    to.topk_group = from.count("topk_group").value_or(1);
    to.norm_topk_prob = from.flag("norm_topk_prob", true);
    to.routed_scaling_factor = from.number("routed_scaling_factor").value_or(1.0f);
    to.scoring_func = scoring_function::sigmoid;
    to.e_score_correction_bias = true;
    to.first_k_dense_replace = read_dense_blocks(from, config.num_hidden_layers);
    from.supports(from.text("scoring_func", "sigmoid") == "sigmoid",
                  "scoring_func",
                  "only sigmoid is, as in DeepSeek-V3");
    from.supports(from.text("topk_method", "noaux_tc") == "noaux_tc",
                  "topk_method",
                  "only noaux_tc is, as in DeepSeek-V3");
    from.supports(from.count("moe_layer_freq").value_or(1) == 1,
                  "moe_layer_freq",
                  "every block behind the dense ones has experts");
  } else {
    experts = from.has("num_experts") ? "num_experts" : "num_local_experts";
    to.scoring_func = scoring_function::softmax;
    to.e_score_correction_bias = false;
    to.norm_topk_prob = true;
    to.moe_intermediate_size = to.intermediate_size;
    if (type.experts == expert_fields::qwen) {
      to.moe_intermediate_size = from.needed_count("moe_intermediate_size");
      to.norm_topk_prob = from.flag("norm_topk_prob", false);
      from.supports(from.count("decoder_sparse_step").value_or(1) == 1,
                    "decoder_sparse_step",
                    "every block has experts");
      const nlohmann::json* const dense = from.find("mlp_only_layers");
      from.supports(dense == nullptr || *dense == nlohmann::json::array(),
                    "mlp_only_layers",
                    "every block has experts");
    }
  }
  to.n_routed_experts = from.needed_count(experts);
  from.supports(to.num_experts_per_tok <= to.n_routed_experts,
                "num_experts_per_tok",
                "there are fewer experts");
  from.supports(to.n_routed_experts % to.n_group == 0, "n_group", "it does not divide the experts");
  from.supports(to.topk_group <= to.n_group, "topk_group", "there are fewer groups");
  from.supports(to.num_experts_per_tok <= to.topk_group * (to.n_routed_experts / to.n_group),
                "num_experts_per_tok",
                "the groups that are kept have fewer experts");
  from.supports(2 * to.moe_intermediate_size % 32 == 0,
                "moe_intermediate_size",
                "it must be a multiple of 16");
  from.supports(
      config.hidden_size % 32 == 0, "hidden_size", "with experts it must be a multiple of 32");
}

/// Throws, with a list of all the fields, for blocks of MiMo-V2 that are not those of Llama.
/// Released models have such blocks.
inline void check_mimo_v2(const config_object& from) {
  std::string lacking;
  const auto refuse_if = [&](bool it, const char* field, const char* what) {
    if (it) {
      lacking += std::string(lacking.empty() ? "" : ", ") + field + " = " +
                 from.find(field)->dump() + " (" + what + ")";
    }
  };
  const auto same = [&](const char* field, int usual, const char* what) {
    refuse_if(from.count(field).value_or(usual) != usual, field, what);
  };
  const int width = from.needed_count("head_dim");
  const int heads = from.needed_count("num_attention_heads");
  const int groups = from.needed_count("num_key_value_heads");
  const int positions = from.needed_count("max_position_embeddings");
  for (const char* field : {"sliding_window", "sliding_window_size", "attention_chunk_size"}) {
    refuse_if(from.count(field).value_or(positions) < positions, field, "a window in some blocks");
  }
  for (const char* field : {"add_swa_attention_sink_bias", "add_full_attention_sink_bias"}) {
    refuse_if(from.flag(field, false), field, "sinks of attention");
  }
  same("v_head_dim", width, "values of another width than keys");
  same("swa_num_attention_heads", heads, "blocks with other heads");
  same("swa_num_key_value_heads", groups, "blocks with other heads");
  same("swa_head_dim", width, "blocks with other heads");
  same("swa_v_head_dim", width, "blocks with other heads");
  const float theta = from.number("rope_theta").value_or(10000.0f);
  refuse_if(from.number("swa_rope_theta").value_or(theta) != theta,
            "swa_rope_theta",
            "blocks with another rotation");
  refuse_if(from.number("attention_value_scale").value_or(1.0f) != 1.0f,
            "attention_value_scale",
            "a scale of values");
  refuse_if(
      from.has("n_routed_experts"), "n_routed_experts", "experts in the trunk and not in modules");
  check(lacking.empty(), from.where(), ": what MiMo-V2 has here is not supported: ", lacking);
}

}  // namespace mtp::inline MTP_ABI::io::detail
