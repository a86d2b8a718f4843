// Parts of a configuration: the layers of a block. Fields have the names of Hugging Face
// configurations.
#pragma once

#include "mtp/model/layer_kind.hpp"
#include "mtp/model/rope_scaling.hpp"

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

  /// Compares all fields.
  friend constexpr bool operator==(const feed_forward_config&,
                                   const feed_forward_config&) = default;
};

}  // namespace mtp::inline MTP_ABI
