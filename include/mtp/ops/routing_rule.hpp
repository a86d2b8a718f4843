// How a router turns scores into a choice of experts.
#pragma once

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// What turns the logits of a router into scores.
enum class scoring_function {
  sigmoid,  ///< of each logit alone (DeepSeek-V3)
  softmax,  ///< over all experts (DeepSeekMoE, Mixtral, Qwen3)
};

/// How route chooses experts and weighs them. Hugging Face's names.
struct routing_rule {
  scoring_function scoring_func = scoring_function::sigmoid;  ///< logits to scores
  index_t n_group = 1;               ///< groups of neighbouring experts, all of one size
  index_t topk_group = 1;            ///< groups of which experts are chosen
  bool norm_topk_prob = true;        ///< the weights of a row are divided by their sum
  double routed_scaling_factor = 1;  ///< of all weights
};

}  // namespace mtp::inline MTP_ABI
