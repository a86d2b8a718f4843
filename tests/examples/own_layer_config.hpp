// Configurations with the layers of examples/own_layer_kind: a window and a sink that short texts
// outgrow, and a first dense block in front of the mixtures.
#pragma once

#include "own_layer_kind/sink_window.hpp"
#include "own_layer_kind/two_experts.hpp"
#include "support/decoding.hpp"

namespace mtp::test {

inline constexpr attention_kind narrow_window{.name = "narrow_window"};

constexpr model_config own_layers(head_kind head, int depth) {
  model_config config = spoken_config(head, depth);
  config.num_hidden_layers = 3;
  config.attention.kind = narrow_window;
  config.attention.num_key_value_heads = 1;
  config.feed_forward.kind = two_experts;
  config.feed_forward.first_k_dense_replace = 1;
  return config;
}

}  // namespace mtp::test

template <>
struct mtp::attention_traits<mtp::test::narrow_window> {
  template <mtp::model_config Config, class Backend, mtp::scalar S>
  using layer = sink_window_attention<Config, Backend, S, 3, 2>;
};
