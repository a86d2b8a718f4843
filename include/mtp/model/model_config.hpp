// The configuration of a model: a value that is a template argument.
#pragma once

#include "mtp/core/scalar.hpp"
#include "mtp/model/layer_config.hpp"
#include "mtp/model/prediction_config.hpp"

namespace mtp::inline MTP_ABI {

/// All that determines the parameters of a model. Fields have the names of Hugging Face
/// configurations.
///
///     constexpr mtp::model_config config{
///         .vocab_size = 256,
///         .hidden_size = 128,
///         .attention = {.num_attention_heads = 4},
///         .feed_forward = {.intermediate_size = 352},
///         .prediction = {.kind = mtp::head_kind::sequential, .depth = 2}};
struct model_config {
  int vocab_size = 256;               ///< V
  int hidden_size = 256;              ///< C
  int num_hidden_layers = 4;          ///< L; for `parallel` the last one is head 1, as in the paper
  int max_position_embeddings = 512;  ///< longest sequence
  float rms_norm_eps = 1e-5f;         ///< added to the mean square under the root

  attention_config attention{};        ///< of every block
  feed_forward_config feed_forward{};  ///< of every block
  prediction_config prediction{};      ///< of tokens beyond the next one

  bool tie_word_embeddings = false;  ///< one matrix for embedding and output

  int tensor_parallel_size = 1;  ///< R: ranks that compute the model together, each with a part of
                                 ///< its heads, of its feed-forward layers' width and of its
                                 ///< vocabulary; sizes above are those of the whole model

  /// E, whether given or derived; not of multi_head_latent, whose heads have several widths.
  constexpr int head_dim() const {
    return attention.head_dim > 0 ? attention.head_dim
                                  : hidden_size / attention.num_attention_heads;
  }
  /// R: how many elements of a head are rotated.
  constexpr int rotary_dim() const {
    return static_cast<int>(static_cast<float>(head_dim()) * attention.partial_rotary_factor);
  }
  /// G, whether given or derived.
  constexpr int num_key_value_heads() const {
    return attention.num_key_value_heads > 0 ? attention.num_key_value_heads
                                             : attention.num_attention_heads;
  }

  /// Compares all fields.
  friend constexpr bool operator==(const model_config&, const model_config&) = default;
};

/// The configuration of the same model on `ranks` ranks that compute it together.
constexpr model_config tensor_parallel(model_config config, int ranks) {
  config.tensor_parallel_size = ranks;
  return config;
}

/// Whether a rank has all of the model.
template <model_config Config>
inline constexpr bool is_whole = Config.tensor_parallel_size == 1;

namespace detail {

/// Fails to compile, with a message, for a model that its ranks cannot divide evenly.
template <model_config Config>
constexpr bool validate_ranks() {
  constexpr int R = Config.tensor_parallel_size;
  static_assert(R > 0, "model_config: tensor_parallel_size must be positive");
  if constexpr (R > 1) {
    static_assert(Config.attention.kind != attention_kind::multi_head_latent &&
                      Config.feed_forward.kind != feed_forward_kind::mixture_of_experts,
                  "model_config: multi_head_latent and mixture_of_experts cannot be divided among "
                  "ranks: tensor_parallel_size must be 1");
    static_assert(
        Config.attention.num_attention_heads % R == 0 && Config.num_key_value_heads() % R == 0,
        "model_config: tensor_parallel_size must divide num_attention_heads and "
        "num_key_value_heads");
    static_assert(Config.feed_forward.intermediate_size % R == 0,
                  "model_config: tensor_parallel_size must divide intermediate_size");
    static_assert(Config.vocab_size % R == 0,
                  "model_config: tensor_parallel_size must divide vocab_size; a larger vocabulary "
                  "with tokens that are never used does no harm");
  }
  return true;
}

/// Fails to compile, with a message, for heads of one width that make no layer.
template <model_config Config>
constexpr bool validate_heads() {
  static_assert(Config.attention.head_dim > 0 ||
                    Config.hidden_size % Config.attention.num_attention_heads == 0,
                "model_config: hidden_size must be divisible by num_attention_heads unless "
                "head_dim is given");
  static_assert(Config.head_dim() > 0 && Config.head_dim() % 2 == 0,
                "model_config: the head width must be even for rotary positions");
  static_assert(Config.attention.partial_rotary_factor > 0 &&
                    Config.attention.partial_rotary_factor <= 1 && Config.rotary_dim() > 0 &&
                    Config.rotary_dim() % 2 == 0,
                "model_config: partial_rotary_factor must leave an even number of elements of each "
                "head to rotate, at least two");
  static_assert(Config.attention.q_lora_rank == 0 && Config.attention.kv_lora_rank == 0 &&
                    Config.attention.qk_nope_head_dim == 0 &&
                    Config.attention.qk_rope_head_dim == 0 && Config.attention.v_head_dim == 0,
                "model_config: q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim and "
                "v_head_dim are sizes of attention_kind::multi_head_latent");
  return true;
}

/// The same for multi-head latent attention.
template <model_config Config>
constexpr bool validate_latent_heads() {
  constexpr attention_config own = Config.attention;
  static_assert(own.kv_lora_rank > 0 && own.qk_nope_head_dim > 0 && own.v_head_dim > 0,
                "model_config: multi_head_latent needs kv_lora_rank, qk_nope_head_dim and "
                "v_head_dim");
  static_assert(own.q_lora_rank >= 0 && own.lora_norm_eps >= 0,
                "model_config: q_lora_rank and lora_norm_eps must not be negative");
  static_assert(own.qk_nope_head_dim % 32 == 0 && own.v_head_dim % 32 == 0,
                "model_config: qk_nope_head_dim and v_head_dim must be multiples of 32, so that "
                "the part of each head is whole panels of a weight");
  static_assert(own.qk_rope_head_dim > 0 && own.qk_rope_head_dim % 2 == 0,
                "model_config: qk_rope_head_dim must be even and positive for rotary positions");
  static_assert(own.head_dim == 0 && own.partial_rotary_factor == 1,
                "model_config: multi_head_latent has qk_nope_head_dim and qk_rope_head_dim in "
                "place of head_dim and partial_rotary_factor");
  static_assert(own.num_key_value_heads == 0 || own.num_key_value_heads == own.num_attention_heads,
                "model_config: multi_head_latent has as many heads of keys and values as of "
                "queries; leave num_key_value_heads out");
  static_assert(!own.qkv_bias && !own.qk_norm,
                "model_config: multi_head_latent takes no qkv_bias and no qk_norm");
  return true;
}

}  // namespace detail

/// Fails to compile, with a message, for a configuration that makes no model.
template <model_config Config>
constexpr bool validate() {
  static_assert(
      Config.vocab_size > 0 && Config.hidden_size > 0 && Config.feed_forward.intermediate_size > 0,
      "model_config: vocab_size, hidden_size and intermediate_size must be positive");
  static_assert(Config.num_hidden_layers > 0, "model_config: num_hidden_layers must be positive");
  static_assert(Config.attention.num_attention_heads > 0,
                "model_config: num_attention_heads must be positive");
  static_assert(Config.attention.num_key_value_heads >= 0 &&
                    Config.attention.num_attention_heads % Config.num_key_value_heads() == 0,
                "model_config: num_attention_heads must be divisible by num_key_value_heads");
  static_assert(Config.max_position_embeddings > 0,
                "model_config: max_position_embeddings must be positive");
  static_assert(Config.rms_norm_eps > 0, "model_config: rms_norm_eps must be positive");
  static_assert(Config.attention.rope_theta > 0, "model_config: rope_theta must be positive");
  if constexpr (Config.attention.kind == attention_kind::multi_head_latent) {
    static_assert(detail::validate_latent_heads<Config>());
  } else {
    static_assert(detail::validate_heads<Config>());
  }
  static_assert(detail::validate_rope_scaling<Config.attention.rope_scaling>());
  static_assert(Config.feed_forward.first_k_dense_replace >= 0 &&
                    Config.feed_forward.first_k_dense_replace <=
                        Config.num_hidden_layers - (Config.prediction.kind.owns_last_block ? 1 : 0),
                "model_config: first_k_dense_replace must be at least 0 and at most the number of "
                "layers that the trunk runs");
  if constexpr (Config.feed_forward.kind == feed_forward_kind::mixture_of_experts) {
    static_assert(detail::validate_experts<Config.feed_forward>());
  }
  static_assert(Config.attention.kind.name[0] != 0 && Config.feed_forward.kind.name[0] != 0,
                "model_config: kinds of layers need names");
  static_assert(detail::validate_ranks<Config>());
  static_assert(Config.prediction.depth >= 0, "model_config: depth must not be negative");
  static_assert(Config.prediction.kind.name[0] != 0, "model_config: a head kind needs a name");
  static_assert(Config.prediction.kind != head_kind::none || Config.prediction.depth == 0,
                "model_config: head_kind::none has depth 0");
  static_assert(Config.prediction.kind == head_kind::none || Config.prediction.depth > 0,
                "model_config: a head kind other than none needs a depth of at least 1");
  return true;
}

}  // namespace mtp::inline MTP_ABI
