// Tells when training goes wrong, while it goes wrong.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

namespace example {

/// Looks at the losses of a run, step by step, and says once when they explode: when one is not a
/// number, or when their running mean has risen by a nat and a quarter above its lowest value.
///
/// It waits while the learning rate rises and five steps more: the first steps of Adam, whose
/// moments are of few gradients, may throw a model far off from which it comes back by itself. The
/// mean begins anew behind the warm-up; its lowest value is that of all steps, the untrained
/// model's included, so that a loss that exploded within the warm-up and stays is said as well.
///
/// Noise does not move it: the mean is that of the last ten steps or so (weight 0.1), so its noise
/// is a quarter of a step's. The quarter of the lowest value is for vocabularies whose losses, and
/// their noise, are larger than those of bytes. Nor does a single step, which counts for at most
/// three nats above the mean, a tenth of which moves it: four in a row at least make an explosion.
class loss_watch {
 public:
  /// A sentence about this step, or nothing. `skipped`: loss or gradients were not finite, so the
  /// step changed nothing.
  std::string look_at(long step, double loss, double learning_rate, bool skipped) {
    warming_up_ = warming_up_ && learning_rate > last_rate_;
    last_rate_ = learning_rate;
    if (skipped || !std::isfinite(loss)) {
      return said(fmt::format("loss or gradients of step {} are not finite: it was skipped", step));
    }
    constexpr double weight = 0.1, most = 3, rise = 1;  // the last two in nats
    constexpr long settled = 5;
    ++seen_;
    if (!warming_up_ && seen_behind_++ == 0) {
      seen_ = 1;
    }
    const double above = (std::min)(loss - mean_, most);
    mean_ =
        seen_ == 1 ? loss : mean_ + (std::max)(weight, 1.0 / static_cast<double>(seen_)) * above;
    lowest_ = begun_ ? (std::min)(lowest_, mean_) : mean_;
    begun_ = true;
    if (seen_behind_ < settled || mean_ < 1.25 * lowest_ + rise) return {};
    return said(
        fmt::format("the loss explodes: at step {} it is {:.2f} nats per byte, after {:.2f} before",
                    step,
                    loss,
                    lowest_));
  }

  /// What was said, or nothing.
  const std::string& sentence() const { return sentence_; }

 private:
  std::string said(const std::string& what) {
    if (!sentence_.empty()) return {};
    sentence_ = what + "; a lower --learning-rate may help";
    return sentence_;
  }

  std::string sentence_;
  double mean_ = 0, lowest_ = 0;  // nats
  double last_rate_ = -1;         // below every rate
  bool warming_up_ = true;        // the rate has risen in each step
  bool begun_ = false;
  long seen_ = 0, seen_behind_ = 0;  // steps of the mean; of these, behind the warm-up
};

}  // namespace example
