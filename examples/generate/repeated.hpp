// A checkpoint's only module, applied more often than once.
#pragma once

#include "mtp/model/model_config.hpp"

namespace example {

/// The configuration with `depth` drafts, where the checkpoint has one module: the module is
/// applied again to what it handed on (mtp::head_kind::recurrent). Other checkpoints, and depth 0,
/// stay as they are.
constexpr mtp::model_config repeated(mtp::model_config config, int depth) {
  auto& prediction = config.prediction;
  if (depth > 0 && prediction.kind == mtp::head_kind::sequential && prediction.depth == 1) {
    prediction.kind = mtp::head_kind::recurrent;
    prediction.depth = depth;
  }
  return config;
}

}  // namespace example
