// The models that the program is compiled for: one size, every head kind, two depths.
#pragma once

#include "mtp/model/model_config.hpp"

namespace example {

/// A byte-level model whose trunk holds 2 million parameters: small enough to read a million bytes
/// in under three minutes on two cores. It is narrow and deep, because a draft of a sequential head
/// costs a block and a half: an eighth of a pass of twelve blocks.
constexpr mtp::model_config make_config(mtp::head_kind head, int depth) {
  return {.vocab_size = 256,
          .hidden_size = 128,
          .num_hidden_layers = 12,
          .max_position_embeddings = 512,
          .attention = {.num_attention_heads = 2, .num_key_value_heads = 1},
          .feed_forward = {.intermediate_size = 352},
          .prediction = {.kind = head, .depth = depth}};
}

/// Depths that each head kind is compiled for on the CPU.
inline constexpr int compiled_depths[] = {1, 3};

/// The model of the GPU: half a billion parameters in the trunk, 1 GB of bf16, so that a pass is
/// bound by the memory or the tensor cores of an H100 and not by the time a launch takes. Compiled
/// for depth 3.
constexpr mtp::model_config make_gpu_config(mtp::head_kind head, int depth) {
  return {.vocab_size = 256,
          .hidden_size = 2048,
          .num_hidden_layers = 12,
          .max_position_embeddings = 2048,
          .attention = {.num_attention_heads = 16, .num_key_value_heads = 4},
          .feed_forward = {.intermediate_size = 5632},
          .prediction = {.kind = head, .depth = depth}};
}

}  // namespace example
