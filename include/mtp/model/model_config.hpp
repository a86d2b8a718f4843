// The configuration of a model: a value that is a template argument.
#pragma once

#include "mtp/core/scalar.hpp"
#include "mtp/model/head_kind.hpp"
#include "mtp/model/layer_kind.hpp"

namespace mtp::inline MTP_ABI {

/// Which half of the input columns of a sequential module's projection belongs to what.
enum class concat_order {
  hidden_first,     ///< [norm(h) ; norm(embedding)]: DeepSeek-V3's paper, equation 21; MiMo
  embedding_first,  ///< [norm(embedding) ; norm(h)]: DeepSeek's released weights, Megatron, Qwen,
                    ///< GLM
};

/// Where a hidden state is taken: before or after the norm that stands in front of the output
/// matrix.
enum class norm_tap {
  pre_norm,   ///< the residual stream
  post_norm,  ///< what the output matrix reads
};

/// Whose norm stands between the stream of a depth and the output matrix.
enum class output_norm_kind {
  per_depth,  ///< each depth its own
  shared,     ///< the trunk's final norm for all
};

/// Everything that decides on the parameters of a model. Names as in Hugging Face configurations.
///
/// Where papers, released weights and engines differ, a field says which is meant; docs/mtp.md
/// gives the evidence.
struct model_config {
  int vocab_size = 256;           ///< V
  int hidden_size = 256;          ///< C
  int num_layers = 4;             ///< L; for `parallel` the last of them is head 1, as in the paper
  int num_heads = 4;              ///< H
  int num_key_value_heads = 0;    ///< G; 0: as many as query heads
  int head_dim = 0;               ///< E; 0: hidden_size / num_heads
  int intermediate_size = 704;    ///< F
  int first_k_dense_replace = 0;  ///< of the layers, the first ones that have SwiGLU whatever
                                  ///< feed_forward says, as DeepSeek's have
  int max_positions = 512;        ///< longest sequence
  float rms_norm_eps = 1e-5f;     ///< added to the mean square under the root
  float rope_theta = 10000.0f;    ///< base of the rotary frequencies
  bool tie_word_embeddings = false;  ///< one matrix for embedding and output
  bool qkv_bias = false;             ///< a bias on the projections to q, k and v
  bool qk_norm = false;              ///< RMSNorm over each head of q and k, before the rotation

  attention_kind attention = attention_kind::grouped_query;  ///< of every block
  feed_forward_kind feed_forward =
      feed_forward_kind::swiglu;  ///< of every block but the first ones

  head_kind head = head_kind::none;  ///< how further tokens are predicted
  int depth = 0;                     ///< D: how many tokens beyond the next one are predicted

  concat_order concat = concat_order::hidden_first;  ///< sequential, recurrent
  norm_tap hidden_tap =
      norm_tap::post_norm;  ///< state of the trunk that heads are given; parallel has none
  norm_tap recycle_tap =
      norm_tap::post_norm;  ///< what depth k + 1 is given of depth k: sequential, recurrent
  output_norm_kind output_norm = output_norm_kind::per_depth;  ///< sequential, recurrent, parallel

  /// G
  constexpr int key_value_heads() const {
    return num_key_value_heads > 0 ? num_key_value_heads : num_heads;
  }
  /// E
  constexpr int head_width() const { return head_dim > 0 ? head_dim : hidden_size / num_heads; }
  /// H E: elements of a query row.
  constexpr index_t query_size() const { return index_t{num_heads} * head_width(); }
  /// G E: elements of a row of keys, or of values.
  constexpr index_t key_value_size() const { return index_t{key_value_heads()} * head_width(); }
  /// (H + 2 G) E: elements of a row of queries, keys and values.
  constexpr index_t qkv_size() const { return query_size() + 2 * key_value_size(); }
  /// rms_norm_eps
  constexpr float epsilon() const { return rms_norm_eps; }

  /// Whether the head predicts tokens that the model can verify.
  constexpr bool drafts() const { return head.drafts && depth > 0; }
  /// Parameter sets of the head: the modules of `sequential`, one for `recurrent`.
  constexpr int head_modules() const {
    switch (head.parameters) {
      case head_parameters::none:
        return 0;
      case head_parameters::one:
        return depth > 0 ? 1 : 0;
      default:
        return depth;
    }
  }

  /// Field by field.
  friend constexpr bool operator==(const model_config&, const model_config&) = default;
};

/// Does not compile, with a sentence, for a configuration that makes no model.
template <model_config Config>
constexpr bool validate() {
  static_assert(Config.vocab_size > 0 && Config.hidden_size > 0 && Config.intermediate_size > 0,
                "model_config: vocab_size, hidden_size and intermediate_size must be positive");
  static_assert(Config.num_layers > 0, "model_config: num_layers must be positive");
  static_assert(Config.num_heads > 0, "model_config: num_heads must be positive");
  static_assert(
      Config.head_dim > 0 || Config.hidden_size % Config.num_heads == 0,
      "model_config: hidden_size must be divisible by num_heads unless head_dim is given");
  static_assert(Config.num_key_value_heads >= 0 && Config.num_heads % Config.key_value_heads() == 0,
                "model_config: num_heads must be divisible by num_key_value_heads");
  static_assert(Config.head_width() > 0 && Config.head_width() % 2 == 0,
                "model_config: the head width must be even for rotary positions");
  static_assert(Config.max_positions > 0, "model_config: max_positions must be positive");
  static_assert(Config.rms_norm_eps > 0, "model_config: rms_norm_eps must be positive");
  static_assert(Config.rope_theta > 0, "model_config: rope_theta must be positive");
  static_assert(
      Config.first_k_dense_replace >= 0 &&
          Config.first_k_dense_replace <= Config.num_layers - (Config.head.owns_last_block ? 1 : 0),
      "model_config: first_k_dense_replace must be at least 0 and at most the number of "
      "layers that the trunk runs");
  static_assert(Config.attention.name[0] != 0 && Config.feed_forward.name[0] != 0,
                "model_config: kinds of layers need names");
  static_assert(Config.depth >= 0, "model_config: depth must not be negative");
  static_assert(Config.head.name[0] != 0, "model_config: a head kind needs a name");
  static_assert(Config.head != head_kind::none || Config.depth == 0,
                "model_config: head_kind::none has depth 0");
  static_assert(Config.head == head_kind::none || Config.depth > 0,
                "model_config: a head kind other than none needs a depth of at least 1");
  return true;
}

}  // namespace mtp::inline MTP_ABI
