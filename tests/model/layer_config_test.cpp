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
  constexpr feed_forward_config feed_forward;
  static_assert(feed_forward == feed_forward_config{});
  static_assert(feed_forward != feed_forward_config{.kind = {.name = "own"}});
  static_assert(feed_forward != feed_forward_config{.intermediate_size = 8});
  static_assert(feed_forward != feed_forward_config{.first_k_dense_replace = 1});
}

}  // namespace mtp::test::model_layer_config_cases
