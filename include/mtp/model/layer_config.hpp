// Parts of a configuration: the layers of a block. Fields have the names of Hugging Face
// configurations.
#pragma once

#include "mtp/model/layer_kind.hpp"
#include "mtp/model/rope_scaling.hpp"
#include "mtp/ops/routing_rule.hpp"

namespace mtp::inline MTP_ABI {

/// The attention layer: all that determines its parameters.
struct attention_config {
  attention_kind kind = attention_kind::grouped_query;  ///< which layer
  int num_attention_heads = 4;                          ///< H
  int num_key_value_heads = 0;                          ///< G; 0: as many as query heads
  int head_dim = 0;                                     ///< E; 0: hidden_size / H
  float rope_theta = 10000.0f;                          ///< base of the rotary frequencies
  rope_scaling_config rope_scaling{};                   ///< changes them for longer sequences
  float partial_rotary_factor = 1;  ///< the share of each head that is rotated: E times this,
                                    ///< rounded down, must be even
  bool qkv_bias = false;            ///< a bias on the projections to q, k and v
  bool qk_norm = false;             ///< RMSNorm over each head of q and k, before the rotation
  bool post_norm = false;           ///< RMSNorm over what the layer adds to the stream (GLM-4)
  int q_lora_rank = 0;       ///< multi_head_latent: rank of the map to queries; 0: it is one matrix
  int kv_lora_rank = 0;      ///< multi_head_latent: width of the latent
  int qk_nope_head_dim = 0;  ///< multi_head_latent: elements of a query or key that are not rotated
  int qk_rope_head_dim = 0;  ///< multi_head_latent: those that are, behind them
  int v_head_dim = 0;        ///< multi_head_latent: width of the values of a head
  float lora_norm_eps = 0;   ///< multi_head_latent: rms_norm_eps of the norms of low ranks; 0: that
                             ///< of the model

  /// Compares all fields.
  friend constexpr bool operator==(const attention_config&, const attention_config&) = default;
};

/// The feed-forward layer: all that determines its parameters.
struct feed_forward_config {
  feed_forward_kind kind = feed_forward_kind::swiglu;  ///< which layer
  int intermediate_size = 704;                         ///< F
  bool post_norm = false;         ///< RMSNorm over what the layer adds to the stream (GLM-4)
  int first_k_dense_replace = 0;  ///< how many first blocks have SwiGLU in place of `kind`, as in
                                  ///< DeepSeek's models

  // Of feed_forward_kind::mixture_of_experts.

  int n_routed_experts = 0;         ///< E
  int num_experts_per_tok = 0;      ///< k: the experts that a row goes to
  int moe_intermediate_size = 0;    ///< F of an expert
  int n_shared_experts = 0;         ///< experts that every row goes to besides: one SwiGLU of this
                                    ///< many times the width of an expert
  int n_group = 1;                  ///< groups of experts
  int topk_group = 1;               ///< groups that a row's experts come from
  bool norm_topk_prob = true;       ///< the weights of a row's experts add up to one
  float routed_scaling_factor = 1;  ///< of these weights
  scoring_function scoring_func = scoring_function::sigmoid;  ///< how logits become scores
  bool e_score_correction_bias = true;  ///< a bias of each expert that takes part in the choice;
                                        ///< the trainer balances the experts' loads with it

  /// Compares all fields.
  friend constexpr bool operator==(const feed_forward_config&,
                                   const feed_forward_config&) = default;
};

namespace detail {

/// Fails to compile, with a message, for experts that make no layer.
template <feed_forward_config FeedForward>
constexpr bool validate_experts() {
  static_assert(FeedForward.n_routed_experts > 0 && FeedForward.moe_intermediate_size > 0,
                "model_config: a mixture of experts needs n_routed_experts and "
                "moe_intermediate_size, both positive");
  static_assert(FeedForward.n_shared_experts >= 0,
                "model_config: n_shared_experts must not be negative");
  static_assert(FeedForward.n_group > 0 && FeedForward.n_routed_experts % FeedForward.n_group == 0,
                "model_config: n_group must be positive and divide n_routed_experts");
  static_assert(FeedForward.topk_group > 0 && FeedForward.topk_group <= FeedForward.n_group,
                "model_config: topk_group must be at least 1 and at most n_group");
  static_assert(FeedForward.num_experts_per_tok > 0 &&
                    FeedForward.num_experts_per_tok <=
                        FeedForward.n_routed_experts / FeedForward.n_group * FeedForward.topk_group,
                "model_config: num_experts_per_tok must be at least 1, and at most as many as the "
                "experts of topk_group groups");
  return true;
}

}  // namespace detail

}  // namespace mtp::inline MTP_ABI
