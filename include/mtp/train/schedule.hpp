// Schedules of a training run: the learning rate and the weight of the deeper losses.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/model/head_kind.hpp"
#include "mtp/train/own_schedule.hpp"

namespace mtp::inline MTP_ABI {

/// Linear warm-up, then half a cosine down to a share of the peak (Loshchilov and Hutter 2017,
/// arXiv 1608.03983, eq. 5, one cycle):
///
///     peak (step + 1) / warmup_steps                         step < warmup_steps
///     lowest + (peak - lowest) (1 + cos(pi progress)) / 2    then, with lowest = floor peak and
///     progress = (step - warmup_steps) / (total_steps - warmup_steps), at most 1
///
/// An own_schedule, any function of the step, may take its place.
struct learning_rate_schedule {
  double peak = 1e-3;        ///< rate at the end of the warm-up
  double floor = 0.1;        ///< rate at the end, as a share of the peak: in [0, 1]
  index_t warmup_steps = 0;  ///< steps of linear warm-up
  index_t total_steps = 0;   ///< steps until the floor, warm-up included; 0: a run without an end,
                             ///< which needs a floor of 1
  own_schedule<double> own{};  ///< in place of peak, floor and warmup_steps; total_steps then only
                               ///< serves the switch of the lambda schedule

  /// The same rate throughout, in a run of any length.
  static constexpr learning_rate_schedule constant(double rate) {
    return {.peak = rate, .floor = 1};
  }

  /// The default of a run: a warm-up of 40 steps, then a constant rate, for a run of any length.
  ///
  ///     peak = 6e-4 768 / hidden_size, at most 5e-3
  ///
  /// GPT-3 trains a width of 768 with 6e-4 and wider models with a rate that falls about in
  /// proportion: 2e-4 at 2048, 1.2e-4 at 4096 (Brown et al. 2020, arXiv 2005.14165, table 2.1). For
  /// Adam, a rate of 1 / width also carries over between widths (Yang et al. 2022, arXiv
  /// 2203.03466, table 3). 40 steps are 2 / (1 - beta2) with AdamW's default beta2 of 0.95 (Ma and
  /// Yarats 2019, arXiv 1910.04209). This is a starting point: a run of known length does better
  /// with a rate that falls.
  static constexpr learning_rate_schedule of_width(index_t hidden_size) {
    return {.peak = (std::min)(5e-3, 6e-4 * 768 / static_cast<double>(hidden_size)),
            .floor = 1,
            .warmup_steps = 40};
  }

  /// Throws mtp::error for invalid numbers: rates that are negative or not finite, a floor outside
  /// [0, 1], negative steps, a falling rate without total_steps, and numbers beside an own
  /// schedule, which would have no effect. The message begins with `function`.
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
    if (own) {
      constexpr learning_rate_schedule unset;
      check(peak == unset.peak && floor == unset.floor && warmup_steps == unset.warmup_steps,
            function,
            ": peak, floor and warmup_steps have no effect beside the own schedule \"",
            own.name(),
            "\" of the learning rate: leave them out");
      return;
    }
    check(total_steps > 0 || floor == 1 || peak == 0,
          function,
          ": a learning rate that falls needs total_steps to fall over; a constant one is "
          "learning_rate_schedule::constant(rate)");
  }

  /// The rate at step `step`, counted from 0. Steps after total_steps have the floor. Throws as
  /// validate and own_schedule::at do.
  double at(index_t step) const {
    validate("learning_rate_schedule");
    if (own) {
      return own.at(step);
    }
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

/// The factor of all losses of depth >= 1: `first` up to a share of the run, then `second`.
/// DeepSeek-V3: 0.3 for the first 10 of 14.8 T tokens, then 0.1 (arXiv 2412.19437, section 4.2). An
/// own_schedule, any function of the step, may take its place.
struct lambda_schedule {
  double first = deepseek_lambda.first;          ///< before the switch
  double second = deepseek_lambda.second;        ///< after it
  double switch_at = deepseek_lambda.switch_at;  ///< when, as a share of the run
  own_schedule<double> own{};                    ///< in place of these

  /// Throws mtp::error for factors that are negative or not finite, a switch_at that is NaN, and
  /// numbers beside an own schedule, which would have no effect. The message begins with
  /// `function`.
  void validate(const char* function) const {
    const auto factor = [](double value) { return std::isfinite(value) && value >= 0; };
    check(
        factor(first) && factor(second) && !std::isnan(switch_at),
        function,
        ": expected finite factors of the schedule of lambda of at least 0, and a switch_at, got ",
        first,
        ", ",
        second,
        " and ",
        switch_at);
    if (own) {
      constexpr lambda_schedule unset;
      check(first == unset.first && second == unset.second && switch_at == unset.switch_at,
            function,
            ": first, second and switch_at have no effect beside the own schedule \"",
            own.name(),
            "\" of lambda: leave them out");
    }
  }

  /// The factor at step `step` of `total_steps`, counted from 0. In a run without an end,
  /// total_steps 0, it is always the first. Throws as own_schedule::at does.
  double at(index_t step, index_t total_steps) const {
    if (own) {
      return own.at(step);
    }
    const auto share =
        total_steps > 0 ? static_cast<double>(step) / static_cast<double>(total_steps) : 0.0;
    return share < switch_at ? first : second;
  }

  /// The default for heads of this kind: head_traits::default_lambda if the kind has one, else 1
  /// throughout, because the weights of the depths then say everything.
  template <head_kind Kind>
  static constexpr lambda_schedule of() {
    if constexpr (requires { head_traits<Kind>::default_lambda; }) {
      constexpr lambda_factors given = head_traits<Kind>::default_lambda;
      return {given.first, given.second, given.switch_at};
    } else {
      return constant(1);
    }
  }
  /// The same factor throughout.
  static constexpr lambda_schedule constant(double value) { return {value, value, 1.0}; }
};

}  // namespace mtp::inline MTP_ABI
