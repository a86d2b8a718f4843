// A small model that two GPUs have parts of, and what it is trained with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mtp/train/trainer.hpp"

namespace mtp::test {

inline constexpr model_config whole_of_run{
    .vocab_size = 130,
    .hidden_size = 64,
    .num_hidden_layers = 1,
    .max_position_embeddings = 32,
    .attention = {.num_attention_heads = 4, .num_key_value_heads = 2},
    .feed_forward = {.intermediate_size = 36},
    .prediction = {.kind = head_kind::none, .depth = 0}};
inline constexpr model_config part_of_run = tensor_parallel(whole_of_run, 2);

template <model_config Config>
train_options<Config> options_of_run() {
  train_options<Config> options{.batch = 1,
                                .length = 5,
                                .accumulation = 4,
                                .learning_rate = learning_rate_schedule::constant(1e-3)};
  options.optimizer.epsilon = 1e-3;  // so that gradients near 0 do not become steps of full length
  options.loss.normalization = loss_normalization::valid_targets;
  options.reduction = reduction_order::engine;
  return options;
}

inline std::vector<std::uint8_t> text_of_runs() {
  std::vector<std::uint8_t> text(400);
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<std::uint8_t>((i * i / 3 + i) % 128);
  }
  return text;
}

}  // namespace mtp::test
