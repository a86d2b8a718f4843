// Parameter-free multi-token prediction: the ordinary logits scored against the next D + 1 targets.
#pragma once

#include <cmath>
#include <cstddef>

#include "mtp/model/heads/none.hpp"

namespace mtp::inline MTP_ABI {

/// The model of `none`; only the loss differs: each row of logits has D + 1 targets with decaying
/// weights. A training objective that costs next to nothing; it predicts nothing that could be
/// verified, so it drafts nothing.
template <model_config Config, class Backend, scalar S>
struct shared_logit_head : none_head<Config, Backend, S> {};

/// The head of head_kind::shared_logit.
template <>
struct head_traits<head_kind::shared_logit> {
  /// 0.5^k.
  static double default_weight(std::size_t k, std::size_t) {
    return std::pow(0.5, static_cast<double>(k));
  }

  /// Its class template.
  template <model_config Config, class Backend, scalar S>
  using head = shared_logit_head<Config, Backend, S>;
};

}  // namespace mtp::inline MTP_ABI
