// The parts of a configuration that its blocks consist of. Names as in Hugging Face configurations.
#pragma once

#include "mtp/model/layer_kind.hpp"

namespace mtp::inline MTP_ABI {

/// Everything that decides on the parameters of an attention layer.
struct attention_config {
  attention_kind kind = attention_kind::grouped_query;  ///< which layer
  int num_attention_heads = 4;                          ///< H
  int num_key_value_heads = 0;                          ///< G; 0: as many as query heads
  int head_dim = 0;                                     ///< E; 0: hidden_size / H
  float rope_theta = 10000.0f;                          ///< base of the rotary frequencies
  bool qkv_bias = false;                                ///< a bias on the projections to q, k and v
  bool qk_norm = false;  ///< RMSNorm over each head of q and k, before the rotation

  /// Field by field.
  friend constexpr bool operator==(const attention_config&, const attention_config&) = default;
};

/// Everything that decides on the parameters of a feed-forward layer.
struct feed_forward_config {
  feed_forward_kind kind = feed_forward_kind::swiglu;  ///< which layer
  int intermediate_size = 704;                         ///< F
  int first_k_dense_replace = 0;  ///< the first blocks that have SwiGLU whatever `kind` says, as
                                  ///< DeepSeek's have

  /// Field by field.
  friend constexpr bool operator==(const feed_forward_config&,
                                   const feed_forward_config&) = default;
};

}  // namespace mtp::inline MTP_ABI
