// Visits the fields of a configuration. Describing, reading, comparing and printing configurations
// use this.
#pragma once

#include <array>
#include <concepts>
#include <string_view>
#include <type_traits>

#include "mtp/model/model_config.hpp"

namespace mtp::inline MTP_ABI {

/// The names of an enumeration's values, in order.
template <class Enum>
struct value_names;
/// Names of concat_order.
template <>
struct value_names<concat_order> {
  static constexpr std::array<std::string_view, 2> names{"hidden_first",
                                                         "embedding_first"};  ///< in order
};
/// Names of norm_tap.
template <>
struct value_names<norm_tap> {
  static constexpr std::array<std::string_view, 2> names{"pre_norm", "post_norm"};  ///< in order
};
/// Names of chain_input.
template <>
struct value_names<chain_input> {
  static constexpr std::array<std::string_view, 2> names{"previous_output",
                                                         "target_hidden"};  ///< in order
};
/// Names of output_norm_kind.
template <>
struct value_names<output_norm_kind> {
  static constexpr std::array<std::string_view, 2> names{"per_depth", "shared"};  ///< in order
};
/// Names of scoring_function.
template <>
struct value_names<scoring_function> {
  static constexpr std::array<std::string_view, 2> names{"sigmoid", "softmax"};  ///< in order
};
/// Names of rope_scaling_kind.
template <>
struct value_names<rope_scaling_kind> {
  static constexpr std::array<std::string_view, 4> names{
      "none", "linear", "llama3", "yarn"};  ///< in order
};

namespace detail {
/// A configuration or a part of one, const or not.
template <class Given, class Config>
concept config_like = std::same_as<std::remove_const_t<Given>, Config>;
}  // namespace detail

/// Calls visitor(name, field) for every field of a part of a configuration, const or not. Names are
/// unique over all parts; where Hugging Face has the field, the name is Hugging Face's.
template <detail::config_like<rope_scaling_config> Scaling, class Visitor>
constexpr void visit_fields(Scaling& scaling, Visitor&& visitor) {
  visitor("rope_type", scaling.kind);
  visitor("rope_factor", scaling.factor);
  visitor("original_max_position_embeddings", scaling.original_max_position_embeddings);
  visitor("low_freq_factor", scaling.low_freq_factor);
  visitor("high_freq_factor", scaling.high_freq_factor);
  visitor("beta_fast", scaling.beta_fast);
  visitor("beta_slow", scaling.beta_slow);
  visitor("attention_factor", scaling.attention_factor);
  visitor("mscale_all_dim", scaling.mscale_all_dim);
}
/// The same for the attention layer.
template <detail::config_like<attention_config> Attention, class Visitor>
constexpr void visit_fields(Attention& attention, Visitor&& visitor) {
  visitor("attention", attention.kind);
  visitor("num_attention_heads", attention.num_attention_heads);
  visitor("num_key_value_heads", attention.num_key_value_heads);
  visitor("head_dim", attention.head_dim);
  visitor("rope_theta", attention.rope_theta);
  visitor("qkv_bias", attention.qkv_bias);
  visitor("qk_norm", attention.qk_norm);
  visitor("partial_rotary_factor", attention.partial_rotary_factor);
  visitor("attention_post_norm", attention.post_norm);
  visitor("q_lora_rank", attention.q_lora_rank);
  visitor("kv_lora_rank", attention.kv_lora_rank);
  visitor("qk_nope_head_dim", attention.qk_nope_head_dim);
  visitor("qk_rope_head_dim", attention.qk_rope_head_dim);
  visitor("v_head_dim", attention.v_head_dim);
  visitor("lora_norm_eps", attention.lora_norm_eps);
  visit_fields(attention.rope_scaling, visitor);
}
/// The same for the fields of a mixture of experts.
template <detail::config_like<feed_forward_config> FeedForward, class Visitor>
constexpr void visit_expert_fields(FeedForward& feed_forward, Visitor&& visitor) {
  visitor("n_routed_experts", feed_forward.n_routed_experts);
  visitor("num_experts_per_tok", feed_forward.num_experts_per_tok);
  visitor("moe_intermediate_size", feed_forward.moe_intermediate_size);
  visitor("n_shared_experts", feed_forward.n_shared_experts);
  visitor("n_group", feed_forward.n_group);
  visitor("topk_group", feed_forward.topk_group);
  visitor("norm_topk_prob", feed_forward.norm_topk_prob);
  visitor("routed_scaling_factor", feed_forward.routed_scaling_factor);
  visitor("scoring_func", feed_forward.scoring_func);
  visitor("e_score_correction_bias", feed_forward.e_score_correction_bias);
}
/// The same for the feed-forward layer.
template <detail::config_like<feed_forward_config> FeedForward, class Visitor>
constexpr void visit_fields(FeedForward& feed_forward, Visitor&& visitor) {
  visitor("feed_forward", feed_forward.kind);
  visitor("intermediate_size", feed_forward.intermediate_size);
  visitor("first_k_dense_replace", feed_forward.first_k_dense_replace);
  visitor("feed_forward_post_norm", feed_forward.post_norm);
  visit_expert_fields(feed_forward, visitor);
}
/// The same for the head.
template <detail::config_like<prediction_config> Prediction, class Visitor>
constexpr void visit_fields(Prediction& prediction, Visitor&& visitor) {
  visitor("head", prediction.kind);
  visitor("depth", prediction.depth);
  visitor("concat", prediction.concat);
  visitor("hidden_tap", prediction.hidden_tap);
  visitor("recycle_tap", prediction.recycle_tap);
  visitor("chain", prediction.chain);
  visitor("output_norm", prediction.output_norm);
}
/// The same for a whole configuration.
template <detail::config_like<model_config> Config, class Visitor>
constexpr void visit_fields(Config& config, Visitor&& visitor) {
  visitor("vocab_size", config.vocab_size);
  visitor("hidden_size", config.hidden_size);
  visitor("num_hidden_layers", config.num_hidden_layers);
  visitor("max_position_embeddings", config.max_position_embeddings);
  visitor("rms_norm_eps", config.rms_norm_eps);
  visitor("tie_word_embeddings", config.tie_word_embeddings);
  visit_fields(config.attention, visitor);
  visit_fields(config.feed_forward, visitor);
  visit_fields(config.prediction, visitor);
}

/// The configuration with every size written out, also those that follow from others.
constexpr model_config resolved(model_config config) {
  if (config.attention.kind != attention_kind::multi_head_latent) {
    config.attention.head_dim = config.head_dim();
  }
  config.attention.num_key_value_heads = config.num_key_value_heads();
  return config;
}

}  // namespace mtp::inline MTP_ABI
