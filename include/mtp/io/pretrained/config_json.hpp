// A configuration as the config.json that other programs read.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "mtp/core/error.hpp"
#include "mtp/io/pretrained/config_literal.hpp"
#include "mtp/io/pretrained/read_config.hpp"
#include "mtp/io/pretrained/trunk_types.hpp"
#include "mtp/model/config_fields.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

/// A float as the shortest decimal number that reads back to it, so that files have 1e-05.
inline double shortest(float value) {
  std::array<char, 32> digits;
  const char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  double read = 0;
  std::from_chars(digits.data(), end, read);
  return read;
}

inline nlohmann::json rope_json(const attention_config& attention) {
  const rope_scaling_config& scaling = attention.rope_scaling;
  nlohmann::json rope{
      {"rope_type", value_names<rope_scaling_kind>::names[static_cast<std::size_t>(scaling.kind)]},
      {"factor", shortest(scaling.factor)}};
  if (scaling.kind != rope_scaling_kind::linear) {
    rope["original_max_position_embeddings"] = scaling.original_max_position_embeddings;
  }
  if (scaling.kind == rope_scaling_kind::llama3) {
    rope["low_freq_factor"] = shortest(scaling.low_freq_factor);
    rope["high_freq_factor"] = shortest(scaling.high_freq_factor);
  } else if (scaling.kind == rope_scaling_kind::yarn) {
    rope["beta_fast"] = shortest(scaling.beta_fast);
    rope["beta_slow"] = shortest(scaling.beta_slow);
    if (scaling.attention_factor > 0) {
      rope["attention_factor"] = shortest(scaling.attention_factor);
    }
    if (scaling.mscale_all_dim > 0) {
      rope["mscale_all_dim"] = shortest(scaling.mscale_all_dim);
    }
  }
  return rope;
}

/// Fields of latent attention.
inline void add_latent_attention(nlohmann::json& json, const attention_config& attention) {
  json["q_lora_rank"] = attention.q_lora_rank > 0 ? nlohmann::json(attention.q_lora_rank) : nullptr;
  json["kv_lora_rank"] = attention.kv_lora_rank;
  json["qk_nope_head_dim"] = attention.qk_nope_head_dim;
  json["qk_rope_head_dim"] = attention.qk_rope_head_dim;
  json["v_head_dim"] = attention.v_head_dim;
  json["head_dim"] = attention.qk_rope_head_dim;  // what transformers means by it
}

/// Fields of a mixture of experts; those of Mixtral are as wide as intermediate_size says.
inline void add_experts(nlohmann::json& json, const feed_forward_config& layer, bool own_width) {
  json["num_experts_per_tok"] = layer.num_experts_per_tok;
  if (own_width) json["moe_intermediate_size"] = layer.moe_intermediate_size;
  if (layer.scoring_func == scoring_function::softmax) {
    json["num_local_experts"] = layer.n_routed_experts;
    if (own_width) json["norm_topk_prob"] = layer.norm_topk_prob;
    return;
  }
  json["norm_topk_prob"] = layer.norm_topk_prob;
  json["n_routed_experts"] = layer.n_routed_experts;
  json["n_shared_experts"] = layer.n_shared_experts;
  json["n_group"] = layer.n_group;
  json["topk_group"] = layer.topk_group;
  json["routed_scaling_factor"] = shortest(layer.routed_scaling_factor);
  json["first_k_dense_replace"] = layer.first_k_dense_replace;
}

/// The model_type whose trunk has these layers, with the name of its class in transformers.
struct written_type {
  std::string_view model_type, architecture;
};
inline written_type type_of(const model_config& config, const family_names& family) {
  const attention_config& attention = config.attention;
  check(!attention.qkv_bias || !attention.qk_norm || &family == &glm4_moe_names,
        "config_json: only the family glm4_moe has both qkv_bias and qk_norm");
  if (&family == &mimo_names) return {"mimo", "MiMoForCausalLM"};
  if (&family == &mimo_v2_names) return {"mimo_v2", "MiMoV2ForCausalLM"};
  if (&family == &glm4_names) return {"glm4", "Glm4ForCausalLM"};
  if (&family == &glm_ocr_names) return {"glm_ocr_text", "GlmOcrTextModel"};
  if (&family == &deepseek_v3_names) return {"deepseek_v3", "DeepseekV3ForCausalLM"};
  if (&family == &mixtral_names) return {"mixtral", "MixtralForCausalLM"};
  if (&family == &glm4_moe_names) {
    if (config.feed_forward.scoring_func == scoring_function::softmax) {
      return {"qwen3_moe", "Qwen3MoeForCausalLM"};
    }
    return {"glm4_moe", "Glm4MoeForCausalLM"};
  }
  if (attention.qkv_bias) return {"qwen2", "Qwen2ForCausalLM"};
  if (attention.qk_norm) return {"qwen3", "Qwen3ForCausalLM"};
  return {"llama", "LlamaForCausalLM"};
}

}  // namespace detail

/// The object of a config.json, which read_config reads as the same configuration and family.
/// `element` is the name of the tensors' type in PyTorch, such as "float32". Throws mtp::error for
/// a configuration that the family's config.json cannot express; the message has what would be read
/// in its place.
inline nlohmann::json config_json(const model_config& config,
                                  const family_names& family,
                                  std::string_view element) {
  const model_config all = resolved(config);
  const auto type = detail::type_of(all, family);
  const detail::trunk_type& trunk = *detail::find_trunk_type(type.model_type);
  nlohmann::json json{{"architectures", nlohmann::json::array({type.architecture})},
                      {"model_type", type.model_type},
                      {"torch_dtype", element},
                      {"vocab_size", all.vocab_size},
                      {"hidden_size", all.hidden_size},
                      {"intermediate_size", all.feed_forward.intermediate_size},
                      {"num_hidden_layers", all.num_hidden_layers},
                      {"num_attention_heads", all.attention.num_attention_heads},
                      {"num_key_value_heads", all.attention.num_key_value_heads},
                      {"head_dim", all.attention.head_dim},
                      {"hidden_act", "silu"},
                      {"max_position_embeddings", all.max_position_embeddings},
                      {trunk.eps, detail::shortest(all.rms_norm_eps)},
                      {"rope_theta", detail::shortest(all.attention.rope_theta)},
                      {"tie_word_embeddings", all.tie_word_embeddings}};
  if (&family == &glm4_names || type.model_type == "glm4_moe") {
    json["attention_bias"] = all.attention.qkv_bias;
  }
  if (type.model_type == "glm4_moe") json["use_qk_norm"] = all.attention.qk_norm;
  if (type.model_type.starts_with("glm") || type.model_type == "mimo_v2") {
    json["partial_rotary_factor"] = detail::shortest(all.attention.partial_rotary_factor);
  }
  if (all.attention.kind == attention_kind::multi_head_latent) {
    detail::add_latent_attention(json, all.attention);
  }
  if (all.feed_forward.kind == feed_forward_kind::mixture_of_experts) {
    detail::add_experts(json, all.feed_forward, &family != &mixtral_names);
  }
  if (all.attention.rope_scaling.kind != rope_scaling_kind::none) {
    json["rope_scaling"] = detail::rope_json(all.attention);
  }
  const prediction_config& head = all.prediction;
  if (head.kind == head_kind::sequential || head.kind == head_kind::recurrent ||
      trunk.modules > 0) {  // without the field it would have these
    json["num_nextn_predict_layers"] = head.modules();
  } else if (head.kind == head_kind::independent) {
    json["medusa_num_heads"] = head.depth;
    json["medusa_num_layers"] = 1;
  } else if (head.kind == head_kind::parallel) {
    json["n_future_tokens"] = head.depth + 1;
  }

  const nlohmann::json parsed = nlohmann::json::parse(json.dump());
  const config_object written(parsed, "config_json");
  pretrained_config read = config_from(written);
  check(read.family == &family,
        "config_json: the family ",
        family.name,
        " has no config.json for this head; it would be read as ",
        read.family->name);
  read.config.prediction = head;  // taps and order are options of whoever loads it
  check(read.config == all,
        "config_json: cannot express the configuration ",
        config_literal(all),
        "; it would be read as ",
        config_literal(read.config));
  return json;
}

}  // namespace mtp::inline MTP_ABI::io
