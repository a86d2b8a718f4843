// What changes over a training run: the learning rate and the weight of the deeper losses.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/model/model_config.hpp"

namespace mtp::inline MTP_ABI {

/// Linear warm-up, then half a cosine down to a share of the peak (Loshchilov and Hutter 2017,
/// arXiv 1608.03983, eq. 5, one cycle):
///
///     peak (step + 1) / warmup_steps                         step < warmup_steps
///     lowest + (peak - lowest) (1 + cos(pi progress)) / 2    then, with lowest = floor peak and
///     progress = (step - warmup_steps) / (total_steps - warmup_steps), at most 1
struct learning_rate_schedule {
  double peak = 1e-3;        ///< rate at the end of the warm-up
  double floor = 0.1;        ///< rate at the end, as a share of the peak: in [0, 1]
  index_t warmup_steps = 0;  ///< steps of linear warm-up
  index_t total_steps = 0;   ///< steps until the floor, warm-up included; 0: a run without an end,
                             ///< which a floor of 1 alone makes sense for

  /// The same rate throughout, in a run of any length.
  static constexpr learning_rate_schedule constant(double rate) {
    return {.peak = rate, .floor = 1};
  }

  /// Throws mtp::error, beginning with `function`, for numbers that make no schedule: rates that
  /// are negative or not finite, a floor outside [0, 1], negative steps, and a rate that falls
  /// without an end to fall to.
  void validate(const char* function) const {
    check(std::isfinite(peak) && peak >= 0,
          function,
          ": expected a finite peak of the learning rate of at least 0, got ",
          peak);
    check(floor >= 0 && floor <= 1,
          function,
          ": the floor of the learning rate is a share of the peak, expected in [0, 1], got ",
          floor);
    check(warmup_steps >= 0 && total_steps >= 0,
          function,
          ": expected warmup_steps and total_steps of at least 0, got ",
          warmup_steps,
          " and ",
          total_steps);
    check(total_steps > 0 || floor == 1 || peak == 0,
          function,
          ": a learning rate that falls needs total_steps to fall over; a constant one is "
          "learning_rate_schedule::constant(rate)");
  }

  /// The rate of step `step`, counted from 0. Steps behind total_steps stay at the floor. Throws as
  /// validate.
  double at(index_t step) const {
    validate("learning_rate_schedule");
    const auto done = static_cast<double>(step);
    if (step < warmup_steps) {
      return peak * (done + 1) / static_cast<double>(warmup_steps);
    }
    const auto length = static_cast<double>((std::max<index_t>)(total_steps - warmup_steps, 1));
    const double progress = (std::min)((done - static_cast<double>(warmup_steps)) / length, 1.0);
    const double lowest = floor * peak;
    return lowest + (peak - lowest) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
  }
};

/// The factor of all losses of depth >= 1. DeepSeek-V3: 0.3 for the first 10 of 14.8 T tokens, then
/// 0.1 (arXiv 2412.19437, section 4.2).
struct lambda_schedule {
  double first = 0.3;              ///< before the switch
  double second = 0.1;             ///< after it
  double switch_at = 10.0 / 14.8;  ///< share of the run

  /// The factor of step `step` of `total_steps`, counted from 0; of a run without an end,
  /// total_steps 0, the first one throughout.
  double at(index_t step, index_t total_steps) const {
    const auto share =
        total_steps > 0 ? static_cast<double>(step) / static_cast<double>(total_steps) : 0.0;
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
