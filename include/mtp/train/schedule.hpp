// What changes over a training run: the learning rate and the weight of the deeper losses.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/model/model_config.hpp"

namespace mtp::inline MTP_ABI {

/// Linear warm-up, then half a cosine down to a floor (Loshchilov and Hutter 2017, arXiv
/// 1608.03983, eq. 5, one cycle):
///
///     peak (step + 1) / warmup_steps                       step < warmup_steps
///     floor + (peak - floor) (1 + cos(pi progress)) / 2    then, with
///     progress = (step - warmup_steps) / (total_steps - warmup_steps), at most 1
struct learning_rate_schedule {
  double peak = 1e-3;        ///< rate at the end of the warm-up
  double floor = 1e-4;       ///< rate at the end
  index_t warmup_steps = 0;  ///< steps of linear warm-up
  index_t total_steps = 1;   ///< steps until the floor, warm-up included

  /// The rate of step `step`, counted from 0. Steps behind total_steps stay at the floor.
  double at(index_t step) const {
    if (step < warmup_steps) {
      return peak * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
    }
    const auto length = static_cast<double>((std::max<index_t>)(total_steps - warmup_steps, 1));
    const double progress = (std::min)(static_cast<double>(step - warmup_steps) / length, 1.0);
    return floor + (peak - floor) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
  }
};

/// The factor of all losses of depth >= 1. DeepSeek-V3: 0.3 for the first 10 of 14.8 T tokens, then
/// 0.1 (arXiv 2412.19437, section 4.2).
struct lambda_schedule {
  double first = 0.3;              ///< before the switch
  double second = 0.1;             ///< after it
  double switch_at = 10.0 / 14.8;  ///< share of the run

  /// The factor of step `step` of `total_steps`, counted from 0.
  double at(index_t step, index_t total_steps) const {
    const auto share =
        static_cast<double>(step) / static_cast<double>((std::max<index_t>)(total_steps, 1));
    return share < switch_at ? first : second;
  }

  /// DeepSeek's schedule where heads are trained as DeepSeek's; 1 where a paper's own weights are
  /// all there is.
  static constexpr lambda_schedule of(head_kind kind) {
    return kind == head_kind::sequential || kind == head_kind::recurrent ? lambda_schedule{}
                                                                         : constant(1);
  }
  /// The same factor throughout.
  static constexpr lambda_schedule constant(double value) { return {value, value, 1.0}; }
};

}  // namespace mtp::inline MTP_ABI
