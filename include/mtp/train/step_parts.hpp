// What a step is made of, whoever computes its gradients.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/loss/batch.hpp"
#include "mtp/loss/loss_options.hpp"
#include "mtp/train/check_options.hpp"
#include "mtp/train/dataset.hpp"
#include "mtp/train/train_options.hpp"
#include "mtp/train/window_batch.hpp"

namespace mtp::inline MTP_ABI::detail {

/// A report with the numbers of a step: its learning rate, and the weights of its losses.
template <model_config Config>
step_report<Config.prediction.depth> begin_report(const train_options<Config>& options,
                                                  index_t step) {
  step_report<Config.prediction.depth> report;
  report.learning_rate = options.learning_rate.at(step);
  report.lambda = options.lambda.at(step, options.learning_rate.total_steps);
  report.weights = options.weights ? options.weights.at(step) : options.loss.weights;
  return report;
}

/// The options, if they are valid; throws mtp::error as check_options and own_schedule::at do.
template <model_config Config>
const train_options<Config>& checked_options(const train_options<Config>& options) {
  const default_environment scope;
  check_options(options);
  static_cast<void>(begin_report(options, 0));
  return options;
}

/// Throws mtp::error unless there is text to train on, in windows of `window` tokens.
template <class Element>
void check_dataset(const dataset<Element>& data, index_t window) {
  check(data.window() == window,
        "trainer: expected a dataset with windows of ",
        window,
        " tokens (length + 1 + depth), got ",
        data.window());
  check(data.training_windows() > 0,
        "trainer: all of the dataset's text is held out (validation_share 1): there is nothing to "
        "train on; trainer::evaluate takes such a dataset");
}

/// How the losses of a step are divided among its passes, so that they add up to those of one large
/// batch: if losses are divided by positions, passes have equal shares; if by targets, shares by
/// their targets.
template <model_config Config>
class loss_shares {
 public:
  /// Type of options of losses.
  using options_type = loss_options<Config.prediction.depth>;
  /// Type of their reports.
  using report_type = loss_report<Config.prediction.depth>;

  /// Of a step with these numbers.
  loss_shares(const train_options<Config>& options,
              const step_report<Config.prediction.depth>& report)
      : of_pass_(options.loss),
        equal_(options.loss.normalization == loss_normalization::positions),
        shares_(equal_ ? static_cast<double>(options.accumulation) : 1.0) {
    of_pass_.lambda = report.lambda * options.loss.lambda;
    of_pass_.weights = report.weights;
    for (auto& weight : of_pass_.weights) {
      weight /= shares_;
    }
    of_pass_.aux_loss_alpha /= static_cast<double>(options.accumulation);
  }

  /// Whether shares are equal; otherwise every pass needs the targets of the step.
  bool equal() const { return equal_; }
  /// The options of a pass.
  const options_type& of_pass() const { return of_pass_; }

  /// The losses of `passes` passes, added in their order; report_of(k) is that of pass k.
  template <class ReportOf>
  report_type sum(index_t passes, const ReportOf& report_of) const {
    report_type sum;
    for (index_t pass = 0; pass < passes; ++pass) {
      const report_type& report = report_of(pass);
      sum.total += report.total;
      sum.balance += report.balance;
      for (std::size_t k = 0; k < sum.depths.size(); ++k) {
        sum.depths[k].loss += report.depths[k].loss / shares_;
        sum.depths[k].targets += report.depths[k].targets;
        sum.depths[k].agreed += report.depths[k].agreed;
      }
    }
    for (auto& depth : sum.depths) {
      depth.count_agreement();
    }
    return sum;
  }

 private:
  options_type of_pass_;
  bool equal_;
  double shares_;
};

/// Loads the samples of a pass of step `step`.
template <model_config Config, class Element>
void load_pass(window_batch& windows,
               const dataset<Element>& data,
               const train_options<Config>& options,
               index_t step,
               index_t pass) {
  windows.make_room(data);  // an evaluation may have changed it
  const auto unsigned_of = [](index_t value) { return static_cast<std::uint64_t>(value); };
  const std::uint64_t passes =
      unsigned_of(step) * unsigned_of(options.accumulation) + unsigned_of(pass);
  for (index_t b = 0; b < options.batch; ++b) {
    const std::uint64_t number = passes * unsigned_of(options.batch) + unsigned_of(b);
    windows.load_training(b, data, number);
  }
}

/// Counts a step, whose loss and gradient norm the report has. Returns whether it updates the
/// parameters. Throws mtp::error if max_bad_steps steps in a row did not.
template <int Depth>
bool count_step(step_report<Depth>& report, trainer_state& state, int max_bad_steps) {
  report.skipped = !std::isfinite(report.gradient_norm) || !std::isfinite(report.loss.total);
  ++state.step;
  report.step = state.step;
  if (!report.skipped) {
    state.skipped_in_a_row = 0;
    return true;
  }
  ++state.skipped;
  ++state.skipped_in_a_row;
  check(state.skipped_in_a_row < max_bad_steps,
        "trainer: ",
        state.skipped_in_a_row,
        " steps in a row had NaN or infinity (loss ",
        report.loss.total,
        ", gradient norm ",
        report.gradient_norm,
        ") at step ",
        state.step,
        "; parameters are those before them");
  return false;
}

/// What gradients of this norm are multiplied by; 0 as clip_norm: nothing is clipped.
inline double clip_scale(double clip_norm, double gradient_norm) {
  return clip_norm > 0 && gradient_norm > clip_norm ? clip_norm / gradient_norm : 1.0;
}

}  // namespace mtp::inline MTP_ABI::detail
