// Weights of the losses of all depths, their divisor, and the parameters that they train.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/model/heads/head.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/model_pass.hpp"

namespace mtp::inline MTP_ABI {

/// The divisor of a depth's sum of cross entropies.
enum class loss_normalization {
  positions,      ///< B T, masked or not: equation 24 of DeepSeek-V3
  valid_targets,  ///< the number of targets that count at that depth, at least 1: Megatron
};

/// total = weights[0] L_0 + lambda * sum over k >= 1 of weights[k] L_k
///
/// Defaults by head kind, their sources in docs/mtp.md: sequential 1 / D each (equation 25);
/// recurrent falling by 0.6 per depth with sum 1 (FastMTP's 0.51, 0.31, 0.18); parallel 1 each
/// (Gloeckle et al., equation 2); independent 0.8^k (Medusa); shared_logit 0.5^k.
template <int Depth>
struct loss_options {
  loss_normalization normalization = loss_normalization::positions;  ///< the divisor
  gradient_scope scope = gradient_scope::joint;  ///< which parameters they train
  double lambda = 1;                             ///< factor of the depths >= 1
  std::array<double, static_cast<std::size_t>(Depth) + 1> weights{};  ///< of depths 0 .. D

  /// Factor of the loss that keeps the experts of each sequence balanced (DeepSeek-V3, equations 17
  /// to 20; ops/route.hpp). Its gradient is part of the gradients, its value not of the losses.
  double aux_loss_alpha = 0;

  /// The factor of depth k in the total.
  double weight(std::size_t k) const { return k == 0 ? weights[0] : lambda * weights[k]; }

  /// Throws mtp::error for factors that are negative or not finite. The message begins with
  /// `function`.
  void validate(const char* function) const {
    const auto factor = [](double value) { return std::isfinite(value) && value >= 0; };
    check(factor(lambda), function, ": expected a finite lambda of at least 0, got ", lambda);
    check(factor(aux_loss_alpha),
          function,
          ": expected a finite aux_loss_alpha of at least 0, got ",
          aux_loss_alpha);
    for (std::size_t k = 0; k < weights.size(); ++k) {
      check(factor(weights[k]),
            function,
            ": expected a finite weight of at least 0 for depth ",
            k,
            ", got ",
            weights[k]);
    }
  }
};

/// Weight 1 for the next token; for the other depths the weights of the head kind's paper, see
/// head_traits. For a mixture of experts aux_loss_alpha is DeepSeek-V3's 0.0001.
template <model_config Config>
loss_options<Config.prediction.depth> default_loss_options() {
  const detail::default_environment scope;
  loss_options<Config.prediction.depth> options;
  constexpr auto D = static_cast<std::size_t>(Config.prediction.depth);
  options.weights[0] = 1;
  for (std::size_t k = 1; k <= D; ++k) {
    options.weights[k] = head_traits<Config.prediction.kind>::default_weight(k, D);
  }
  if (Config.feed_forward.kind == feed_forward_kind::mixture_of_experts) {
    options.aux_loss_alpha = 0.0001;
  }
  return options;
}

}  // namespace mtp::inline MTP_ABI
