// The order in which a sequential module concatenates its inputs.
#pragma once

#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI {

/// The order of the two halves of a sequential module's input, and of its projection's columns.
enum class concat_order {
  hidden_first,     ///< [norm(h) ; norm(embedding)]: DeepSeek-V3's paper, equation 21; MiMo
  embedding_first,  ///< [norm(embedding) ; norm(h)]: DeepSeek's released weights, Megatron, Qwen,
                    ///< GLM
};

}  // namespace mtp::inline MTP_ABI
