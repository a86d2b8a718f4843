// The trunks of other programs that the library knows, by the model_type of their config.json.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

#include "mtp/io/pretrained/families.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// Whose fields say which experts a trunk has.
enum class expert_fields {
  none,      ///< dense
  deepseek,  ///< n_routed_experts, and the gate of DeepSeek-V3
  qwen,      ///< num_experts, softmax
  mixtral,   ///< num_local_experts, softmax, each expert intermediate_size wide
};

/// What differs among the trunks that are known.
struct trunk_type {
  std::string_view model_type;
  bool qkv_bias = false;            ///< without a field for it
  bool qk_norm = false;             ///< without a field for it
  bool needs_head_dim = false;      ///< its default is not hidden_size / num_attention_heads
  bool needs_kv_heads = false;      ///< its default is not num_attention_heads
  bool window_switched = false;     ///< sliding_window counts only with use_sliding_window
  float partial_rotary_factor = 0;  ///< without a field for it; 0: whole heads, and no field may
                                    ///< say otherwise
  bool post_norms = false;          ///< a norm behind each layer
  bool bias_by_field = false;       ///< attention_bias is qkv_bias
  bool norm_by_field = false;       ///< use_qk_norm is qk_norm
  bool latent = false;              ///< latent attention
  expert_fields experts = expert_fields::none;  ///< which experts
  float rope_theta = 10000;                     ///< without a field for it
  const char* eps = "rms_norm_eps";             ///< the field of the norms' epsilon
  int modules = 0;                              ///< of its head, without a field for it
  const family_names* own = nullptr;  ///< names of trunk and modules; no other head is known
};

/// MiMo-V2 under one of its names.
constexpr trunk_type mimo_v2_type(std::string_view model_type) {
  return {.model_type = model_type,
          .needs_head_dim = true,
          .needs_kv_heads = true,
          .partial_rotary_factor = 0.334f,
          .eps = "layernorm_epsilon",
          .modules = 3,
          .own = &mimo_v2_names};
}

inline constexpr std::array<trunk_type, 14> trunk_types{{
    {.model_type = "llama"},
    {.model_type = "mistral", .needs_kv_heads = true},
    {.model_type = "qwen2", .qkv_bias = true, .needs_kv_heads = true, .window_switched = true},
    {.model_type = "qwen3",
     .qk_norm = true,
     .needs_head_dim = true,
     .needs_kv_heads = true,
     .window_switched = true},
    {.model_type = "mimo", .qkv_bias = true, .needs_kv_heads = true, .window_switched = true},
    mimo_v2_type("mimo_v2"),
    mimo_v2_type("mimo_v2_flash"),
    {.model_type = "glm4",
     .needs_head_dim = true,
     .needs_kv_heads = true,
     .partial_rotary_factor = 0.5f,
     .post_norms = true,
     .bias_by_field = true,
     .own = &glm4_names},
    {.model_type = "glm_ocr_text",
     .needs_kv_heads = true,
     .partial_rotary_factor = 1.0f,
     .post_norms = true,
     .own = &glm_ocr_names},
    {.model_type = "deepseek_v3",
     .latent = true,
     .experts = expert_fields::deepseek,
     .own = &deepseek_v3_names},
    {.model_type = "glm4_moe_lite",
     .latent = true,
     .experts = expert_fields::deepseek,
     .own = &deepseek_v3_names},
    {.model_type = "glm4_moe",
     .needs_kv_heads = true,
     .partial_rotary_factor = 0.5f,
     .bias_by_field = true,
     .norm_by_field = true,
     .experts = expert_fields::deepseek,
     .own = &glm4_moe_names},
    {.model_type = "qwen3_moe",
     .qk_norm = true,
     .needs_kv_heads = true,
     .window_switched = true,
     .experts = expert_fields::qwen,
     .own = &glm4_moe_names},
    {.model_type = "mixtral",
     .needs_kv_heads = true,
     .experts = expert_fields::mixtral,
     .rope_theta = 1000000,
     .own = &mixtral_names},
}};

/// That of a model_type; null if it is not known.
inline const trunk_type* find_trunk_type(std::string_view model_type) {
  const auto* const found =
      std::find_if(trunk_types.begin(), trunk_types.end(), [&](const trunk_type& known) {
        return known.model_type == model_type;
      });
  return found == trunk_types.end() ? nullptr : found;
}

}  // namespace mtp::inline MTP_ABI::io::detail
