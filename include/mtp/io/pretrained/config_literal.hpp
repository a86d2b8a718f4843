// A configuration as C++ source.
#pragma once

#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <type_traits>

#include "mtp/io/describe.hpp"
#include "mtp/model/config_fields.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

/// A value as C++ source.
template <class Value>
std::string source_of(const Value& value) {
  const std::string text = mtp::detail::field_text(value);
  if constexpr (std::is_same_v<Value, float>) {
    std::array<char, 32> digits;  // the shortest that read back to the same bits
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    const std::string shortest(digits.data(), end);
    return shortest + (shortest.find_first_of(".e") == std::string::npos ? ".0f" : "f");
  } else if constexpr (std::is_same_v<Value, head_kind>) {
    return "mtp::head_kind::" + text;
  } else if constexpr (std::is_same_v<Value, concat_order>) {
    return "mtp::concat_order::" + text;
  } else if constexpr (std::is_same_v<Value, norm_tap>) {
    return "mtp::norm_tap::" + text;
  } else if constexpr (std::is_same_v<Value, chain_input>) {
    return "mtp::chain_input::" + text;
  } else if constexpr (std::is_same_v<Value, output_norm_kind>) {
    return "mtp::output_norm_kind::" + text;
  } else if constexpr (std::is_same_v<Value, rope_scaling_kind>) {
    return "mtp::rope_scaling_kind::" + text;
  } else if constexpr (std::is_same_v<Value, attention_kind>) {
    return "mtp::attention_kind::" + text;
  } else if constexpr (std::is_same_v<Value, feed_forward_kind>) {
    return "mtp::feed_forward_kind::" + text;
  } else if constexpr (std::is_same_v<Value, scoring_function>) {
    return "mtp::scoring_function::" + text;
  } else {
    return text;
  }
}

/// Initializers, without those that equal the default.
class initializer_list {
 public:
  template <class Value>
  initializer_list& add(std::string_view field, const Value& value, const Value& usual) {
    return value == usual ? *this : text(field, source_of(value));
  }
  initializer_list& add(std::string_view field, const initializer_list& part) {
    return part.text_.empty() ? *this : text(field, "{" + part.text_ + "}");
  }
  const std::string& str() const { return text_; }

 private:
  initializer_list& text(std::string_view field, const std::string& value) {
    text_ += (text_.empty() ? "." : ", .") + std::string(field) + " = " + value;
    return *this;
  }
  std::string text_;
};

inline initializer_list initializers(const rope_scaling_config& c) {
  const rope_scaling_config usual;
  return initializer_list()
      .add("kind", c.kind, usual.kind)
      .add("factor", c.factor, usual.factor)
      .add("original_max_position_embeddings",
           c.original_max_position_embeddings,
           usual.original_max_position_embeddings)
      .add("low_freq_factor", c.low_freq_factor, usual.low_freq_factor)
      .add("high_freq_factor", c.high_freq_factor, usual.high_freq_factor)
      .add("beta_fast", c.beta_fast, usual.beta_fast)
      .add("beta_slow", c.beta_slow, usual.beta_slow)
      .add("attention_factor", c.attention_factor, usual.attention_factor)
      .add("mscale_all_dim", c.mscale_all_dim, usual.mscale_all_dim);
}

inline initializer_list initializers(const attention_config& c) {
  const attention_config usual;
  return initializer_list()
      .add("kind", c.kind, usual.kind)
      .add("num_attention_heads", c.num_attention_heads, 0)
      .add("num_key_value_heads", c.num_key_value_heads, 0)
      .add("head_dim", c.head_dim, 0)
      .add("rope_theta", c.rope_theta, usual.rope_theta)
      .add("rope_scaling", initializers(c.rope_scaling))
      .add("partial_rotary_factor", c.partial_rotary_factor, usual.partial_rotary_factor)
      .add("qkv_bias", c.qkv_bias, usual.qkv_bias)
      .add("qk_norm", c.qk_norm, usual.qk_norm)
      .add("post_norm", c.post_norm, usual.post_norm)
      .add("q_lora_rank", c.q_lora_rank, usual.q_lora_rank)
      .add("kv_lora_rank", c.kv_lora_rank, usual.kv_lora_rank)
      .add("qk_nope_head_dim", c.qk_nope_head_dim, usual.qk_nope_head_dim)
      .add("qk_rope_head_dim", c.qk_rope_head_dim, usual.qk_rope_head_dim)
      .add("v_head_dim", c.v_head_dim, usual.v_head_dim)
      .add("lora_norm_eps", c.lora_norm_eps, usual.lora_norm_eps);
}

inline initializer_list initializers(const feed_forward_config& c) {
  const feed_forward_config usual;
  return initializer_list()
      .add("kind", c.kind, usual.kind)
      .add("intermediate_size", c.intermediate_size, 0)
      .add("post_norm", c.post_norm, usual.post_norm)
      .add("first_k_dense_replace", c.first_k_dense_replace, usual.first_k_dense_replace)
      .add("n_routed_experts", c.n_routed_experts, usual.n_routed_experts)
      .add("num_experts_per_tok", c.num_experts_per_tok, usual.num_experts_per_tok)
      .add("moe_intermediate_size", c.moe_intermediate_size, usual.moe_intermediate_size)
      .add("n_shared_experts", c.n_shared_experts, usual.n_shared_experts)
      .add("n_group", c.n_group, usual.n_group)
      .add("topk_group", c.topk_group, usual.topk_group)
      .add("norm_topk_prob", c.norm_topk_prob, usual.norm_topk_prob)
      .add("routed_scaling_factor", c.routed_scaling_factor, usual.routed_scaling_factor)
      .add("scoring_func", c.scoring_func, usual.scoring_func)
      .add("e_score_correction_bias", c.e_score_correction_bias, usual.e_score_correction_bias);
}

inline initializer_list initializers(const prediction_config& c) {
  const prediction_config usual;
  return initializer_list()
      .add("kind", c.kind, usual.kind)
      .add("depth", c.depth, usual.depth)
      .add("concat", c.concat, usual.concat)
      .add("hidden_tap", c.hidden_tap, usual.hidden_tap)
      .add("recycle_tap", c.recycle_tap, usual.recycle_tap)
      .add("chain", c.chain, usual.chain)
      .add("output_norm", c.output_norm, usual.output_norm);
}

}  // namespace detail

/// The braced initializer of a configuration whose layers and head are the library's own: sizes,
/// and what differs from the defaults.
///
///     {.vocab_size = 49152, .hidden_size = 576, ..}
inline std::string config_literal(const model_config& config) {
  const model_config all = resolved(config), usual;
  const auto list =
      detail::initializer_list()
          .add("vocab_size", all.vocab_size, 0)
          .add("hidden_size", all.hidden_size, 0)
          .add("num_hidden_layers", all.num_hidden_layers, 0)
          .add("max_position_embeddings", all.max_position_embeddings, 0)
          .add("rms_norm_eps", all.rms_norm_eps, 0.0f)
          .add("attention", detail::initializers(all.attention))
          .add("feed_forward", detail::initializers(all.feed_forward))
          .add("prediction", detail::initializers(all.prediction))
          .add("tie_word_embeddings", all.tie_word_embeddings, usual.tie_word_embeddings);
  return "{" + list.str() + "}";
}

}  // namespace mtp::inline MTP_ABI::io
