// Models that two ranks have parts of, as tests of GPUs compare them with the CPU.
#pragma once

#include <vector>

#include "model/agreement.hpp"
#include "support/model.hpp"

namespace mtp::test {

/// In f64 sequential heads, in bf16 independent ones and attention heads of a width that tensor
/// cores take.
template <class S>
constexpr model_config config_of_parts() {
  constexpr bool in_bf16 = sizeof(S) == 2;
  model_config config =
      in_bf16 ? flipped_config(head_kind::independent, 2) : tiny_config(head_kind::sequential, 2);
  config.vocab_size = 22;
  config.feed_forward.intermediate_size = in_bf16 ? 40 : 14;
  if (in_bf16) {
    config.hidden_size = 32;
    config.attention.head_dim = 16;
  }
  return tensor_parallel(config, 2);
}

/// What each of two ranks of the CPU computes. Its half of a test is a file of its own.
template <class S>
std::vector<model_trace> trace_parts_on_cpu();

}  // namespace mtp::test
