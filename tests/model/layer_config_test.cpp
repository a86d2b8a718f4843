#include "mtp/model/layer_config.hpp"

#include <doctest/doctest.h>

namespace mtp::test::model_layer_config_cases {

TEST_CASE("parts of a configuration are equal if all their fields are") {
  constexpr attention_config attention;
  static_assert(attention == attention_config{});
  static_assert(attention != attention_config{.kind = {.name = "own"}});
  static_assert(attention != attention_config{.num_attention_heads = 8});
  static_assert(attention != attention_config{.num_key_value_heads = 1});
  static_assert(attention != attention_config{.head_dim = 8});
  static_assert(attention != attention_config{.rope_theta = 500000.0f});
  static_assert(attention != attention_config{.qkv_bias = true});
  static_assert(attention != attention_config{.qk_norm = true});
  static_assert(attention != attention_config{.q_lora_rank = 8});
  static_assert(attention != attention_config{.kv_lora_rank = 8});
  static_assert(attention != attention_config{.qk_nope_head_dim = 32});
  static_assert(attention != attention_config{.qk_rope_head_dim = 8});
  static_assert(attention != attention_config{.v_head_dim = 32});
  constexpr feed_forward_config feed_forward;
  static_assert(feed_forward == feed_forward_config{});
  static_assert(feed_forward != feed_forward_config{.kind = {.name = "own"}});
  static_assert(feed_forward != feed_forward_config{.intermediate_size = 8});
  static_assert(feed_forward != feed_forward_config{.first_k_dense_replace = 1});
  static_assert(feed_forward != feed_forward_config{.n_routed_experts = 1});
  static_assert(feed_forward != feed_forward_config{.num_experts_per_tok = 1});
  static_assert(feed_forward != feed_forward_config{.moe_intermediate_size = 1});
  static_assert(feed_forward != feed_forward_config{.n_shared_experts = 1});
  static_assert(feed_forward != feed_forward_config{.n_group = 2});
  static_assert(feed_forward != feed_forward_config{.topk_group = 2});
  static_assert(feed_forward != feed_forward_config{.norm_topk_prob = false});
  static_assert(feed_forward != feed_forward_config{.routed_scaling_factor = 2});
  static_assert(feed_forward != feed_forward_config{.scoring_func = scoring_function::softmax});
  static_assert(feed_forward != feed_forward_config{.e_score_correction_bias = false});
}

}  // namespace mtp::test::model_layer_config_cases
