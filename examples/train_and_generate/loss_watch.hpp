// Tells when training goes wrong, while it goes wrong.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

namespace example {

/// Looks at the losses of a run, step by step, and says once when they explode: when one is not a
/// number, or when their running mean has risen by a nat above its lowest value. Means do not rise
/// so far by chance: the noise of a step is below a nat, and that of the mean a quarter of it.
class loss_watch {
 public:
  /// A sentence about this step, or nothing. `skipped`: loss or gradients were not finite, so the
  /// step changed nothing.
  std::string look_at(long step, double loss, bool skipped) {
    if (skipped || !std::isfinite(loss)) {
      return said(fmt::format("loss or gradients of step {} are not finite: it was skipped", step));
    }
    constexpr double weight = 0.1, rise = 1;  // nats
    ++seen_;
    mean_ = seen_ == 1 ? loss : mean_ + weight * (loss - mean_);
    lowest_ = seen_ == 1 ? mean_ : (std::min)(lowest_, mean_);
    if (mean_ < lowest_ + rise) return {};
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
  long seen_ = 0;
};

}  // namespace example
