// FastMTP's head: one sequential module applied D times (arXiv 2509.18362); Megatron's repeated
// layer.
#pragma once

#include "mtp/model/heads/sequential.hpp"

namespace mtp::inline MTP_ABI {

/// The sequential head with a single module for all depths: config.head_modules() is 1. Every
/// application attends over its own stream, so each depth has a cache of its own; gradients of all
/// depths add up in the one module.
template <model_config Config, class Backend, scalar S>
struct recurrent_head : sequential_head<Config, Backend, S> {
  static_assert(Config.head_modules() == 1, "recurrent_head: one module serves all depths");
};

}  // namespace mtp::inline MTP_ABI
