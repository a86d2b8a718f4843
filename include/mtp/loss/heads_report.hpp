// Input, options and result of the loss of a head alone.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/loss/batch.hpp"

namespace mtp::inline MTP_ABI {

/// A batch for a head alone. Its hidden states are put where heads_loss::hidden says.
struct heads_batch {
  batch_view text;  ///< [B, T + 1 + D]
  /// The tokens that the trunk chooses behind each position, which are then the targets: a draft
  /// that equals them is accepted. Empty: the targets are the text's tokens.  [B, T]
  std::span<const token_t> choices = {};
};

/// What the loss of a head alone is made of.
template <int Depth>
struct heads_options {
  std::array<double, static_cast<std::size_t>(Depth) + 1> weights{};  ///< of depths 1 .. D
  bool distils = false;  ///< distillation towards the trunk, rather than cross entropy
  std::array<double, static_cast<std::size_t>(Depth) + 1> shares{};  ///< of KL in distillation; the
                                                                     ///< rest is TV

  /// Weights beta^(k - 1), divided by their sum, and the share 1 for all depths. FastMTP has 0.6.
  static heads_options falling_by(double beta) {
    heads_options made;
    double sum = 0;
    for (std::size_t k = 1; k < made.weights.size(); ++k) {
      made.weights[k] = std::pow(beta, static_cast<double>(k - 1));
      sum += made.weights[k];
    }
    for (double& weight : made.weights) weight /= sum;
    made.shares.fill(1);
    return made;
  }

  /// Throws mtp::error for weights that are negative or not finite, and shares outside [0, 1].
  void validate() const {
    for (std::size_t k = 1; k < weights.size(); ++k) {
      check(std::isfinite(weights[k]) && weights[k] >= 0,
            "heads_loss: expected a finite weight of at least 0 for depth ",
            k,
            ", got ",
            weights[k]);
      check(!distils || (shares[k] >= 0 && shares[k] <= 1),
            "heads_loss: expected a share of KL in [0, 1] for depth ",
            k,
            ", got ",
            shares[k]);
    }
  }
};

/// The result of a batch at one depth, or a sum of such results.
struct heads_depth_report {
  double loss = 0;      ///< nats per target that has a loss
  double overlap = 0;   ///< mean of 1 - TV, after distillation
  index_t scored = 0;   ///< targets that have a loss
  index_t targets = 0;  ///< targets
  index_t agreed = 0;   ///< targets that the draft equals
  index_t chained = 0;  ///< of these, where all lower depths agreed as well

  /// Adds the targets of another batch.
  void add(const heads_depth_report& other) {
    const auto count = static_cast<double>((std::max<index_t>)(scored + other.scored, 1));
    const auto mean = [&](double mine, double others) {
      return (mine * static_cast<double>(scored) + others * static_cast<double>(other.scored)) /
             count;
    };
    loss = mean(loss, other.loss);
    overlap = mean(overlap, other.overlap);
    scored += other.scored;
    targets += other.targets;
    agreed += other.agreed;
    chained += other.chained;
  }
  /// Share of targets that the draft equals.
  double agreement() const { return share(agreed); }
  /// Share of targets where the drafts up to this depth would all be accepted.
  double reached() const { return share(chained); }

 private:
  double share(index_t count) const {
    return static_cast<double>(count) / static_cast<double>((std::max<index_t>)(targets, 1));
  }
};

/// The result of a batch.
template <int Depth>
struct heads_report {
  double total = 0;  ///< weighted sum over depths; gradients are of this
  std::array<heads_depth_report, static_cast<std::size_t>(Depth) + 1> depths{};  ///< 1 .. D

  /// Adds the targets of another batch; totals are weighted alike.
  void add(const heads_report& other, const heads_options<Depth>& options) {
    total = 0;
    for (std::size_t k = 1; k < depths.size(); ++k) {
      depths[k].add(other.depths[k]);
      total += options.weights[k] * depths[k].loss;
    }
  }
  /// Tokens of a verification of D drafts, if what is confirmed were distributed as these targets:
  /// 1 + sum of reached().
  double tokens_per_pass() const {
    double sum = 1;
    for (std::size_t k = 1; k < depths.size(); ++k) sum += depths[k].reached();
    return sum;
  }
};

}  // namespace mtp::inline MTP_ABI
