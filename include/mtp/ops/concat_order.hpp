// In which order a sequential module concatenates what it is given.
#pragma once

#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI {

/// Which half of the input columns of a sequential module's projection belongs to what.
enum class concat_order {
  hidden_first,     ///< [norm(h) ; norm(embedding)]: DeepSeek-V3's paper, equation 21; MiMo
  embedding_first,  ///< [norm(embedding) ; norm(h)]: DeepSeek's released weights, Megatron, Qwen,
                    ///< GLM
};

}  // namespace mtp::inline MTP_ABI
