// The models that the program is compiled for: one size, every head kind, two depths.
#pragma once

#include "mtp/model/model_config.hpp"

namespace example {

/// A byte-level model whose trunk holds 9 million parameters, 35 MB: small enough to learn
/// something in two minutes on two cores, too large for the last-level cache of most of them.
/// Reading it for five rows costs what it costs for one, which is why drafting pays.
constexpr mtp::model_config make_config(mtp::head_kind head, int depth) {
  return {.vocab_size = 256,
          .hidden_size = 320,
          .num_layers = 8,
          .num_heads = 5,
          .num_key_value_heads = 1,
          .intermediate_size = 864,
          .max_positions = 512,
          .head = head,
          .depth = depth};
}

/// Depths that each head kind is compiled for.
inline constexpr int compiled_depths[] = {1, 3};

}  // namespace example
