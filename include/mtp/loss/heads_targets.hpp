// The targets of a head alone, on the host.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/loss/batch.hpp"
#include "mtp/loss/heads_report.hpp"

namespace mtp::inline MTP_ABI::detail {

/// Tokens, targets and weights of a batch as a pass reads them, and what its results mean. Rows of
/// depth k >= 1 stand at (k - 1) N.
class heads_targets {
 public:
  /// `part` are the tokens of the draft vocabulary; none: all are in it.
  heads_targets(index_t vocabulary, std::span<const token_t> part)
      : index_(static_cast<std::size_t>(vocabulary), part.empty() ? token_t{0} : token_t{-1}) {
    for (std::size_t v = 0; part.empty() && v < index_.size(); ++v) {
      index_[v] = static_cast<token_t>(v);
    }
    for (std::size_t r = 0; r < part.size(); ++r) {
      index_[static_cast<std::size_t>(part[r])] = static_cast<token_t>(r);
    }
  }

  /// [D + 1, N]: row k holds t[i + k].
  std::span<const token_t> tokens() const { return tokens_; }
  /// [D N], in the draft vocabulary; -1: none, or outside of it.
  std::span<const token_t> targets() const { return targets_; }
  /// [D N]
  template <class S>
  std::span<const S> weights() const {
    return std::get<std::vector<S>>(weights_);
  }

  void fill_tokens(const batch_view& text, index_t D) {
    const index_t T = text.length, N = text.batch * T, row = T + 1 + D;
    tokens_.resize(static_cast<std::size_t>((D + 1) * N));
    for (index_t k = 0; k <= D; ++k) {
      for (index_t n = 0; n < N; ++n) {
        tokens_[static_cast<std::size_t>(k * N + n)] =
            text.tokens[static_cast<std::size_t>(n / T * row + n % T + k)];
      }
    }
    N_ = N;
    D_ = D;
  }

  void fill_none(index_t N) { targets_.assign(static_cast<std::size_t>(D_ * N), -1); }

  /// Throws mtp::error for another number of choices than positions, and for choices outside the
  /// vocabulary.
  template <class S, int Depth>
  void fill_targets(const heads_batch& batch, const heads_options<Depth>& options) {
    const batch_view& text = batch.text;
    const index_t T = text.length, row = T + 1 + D_;
    check(batch.choices.empty() || static_cast<index_t>(batch.choices.size()) == N_,
          "heads_loss: expected ",
          N_,
          " choices of the trunk, got ",
          batch.choices.size());
    const auto count = static_cast<std::size_t>(D_ * N_);
    targets_.assign(count, -1);
    exists_.assign(count, 0);
    auto& weights = std::get<std::vector<S>>(weights_);
    weights.assign(count, S{0});
    for (index_t k = 1; k <= D_; ++k) {
      const std::size_t first = static_cast<std::size_t>((k - 1) * N_);
      index_t scored = 0;
      for (index_t n = 0; n < N_; ++n) {
        const auto here = static_cast<std::size_t>(n / T * row + n % T);
        const std::size_t there = here + 1 + static_cast<std::size_t>(k), at = first + index(n);
        const bool has_row = n % T + k < T;  // of the trunk, in front of the target
        if (!is_target(text, here, there) || (needs_row(batch, options) && !has_row)) continue;
        const token_t token =
            batch.choices.empty() ? text.tokens[there] : batch.choices[index(n + k)];
        check(token >= 0 && index(token) < index_.size(),
              "heads_loss: the choice ",
              token,
              " does not lie in [0, ",
              index_.size(),
              ")");
        exists_[at] = 1;
        targets_[at] = index_[index(token)];
        if (targets_[at] >= 0 || options.distils) {
          weights[at] = S{1};
          ++scored;
        }
      }
      const double weight = options.weights[static_cast<std::size_t>(k)] /
                            static_cast<double>((std::max<index_t>)(scored, 1));
      for (std::size_t at = first; at < first + index(N_); ++at) {
        weights[at] *= static_cast<S>(weight);
      }
    }
  }

  template <int Depth, class S>
  heads_report<Depth> summarize(const heads_options<Depth>& options,
                                const std::vector<S>& losses,
                                const std::vector<S>& overlaps,
                                const std::vector<token_t>& predicted) const {
    heads_report<Depth> report;
    std::vector<std::uint8_t> chain(index(N_), 1);
    for (index_t k = 1; k <= D_; ++k) {
      heads_depth_report& depth = report.depths[index(k)];
      double loss = 0, overlap = 0;
      for (index_t n = 0; n < N_; ++n) {
        const std::size_t at = index((k - 1) * N_ + n);
        if (exists_[at] == 0) {
          chain[index(n)] = 0;
          continue;
        }
        const bool agrees = targets_[at] >= 0 && predicted[at] == targets_[at];
        chain[index(n)] = chain[index(n)] != 0 && agrees ? 1 : 0;
        ++depth.targets;
        depth.agreed += agrees ? 1 : 0;
        depth.chained += chain[index(n)];
        if (targets_[at] >= 0 || options.distils) {
          ++depth.scored;
          loss += static_cast<double>(losses[at]);
          overlap += options.distils ? static_cast<double>(overlaps[at]) : 0;
        }
      }
      const auto scored = static_cast<double>((std::max<index_t>)(depth.scored, 1));
      depth.loss = loss / scored;
      depth.overlap = overlap / scored;
      report.total += options.weights[index(k)] * depth.loss;
    }
    return report;
  }

 private:
  static std::size_t index(index_t i) { return static_cast<std::size_t>(i); }
  /// Whether a target rests on a row of the trunk in the same sequence.
  template <int Depth>
  static bool needs_row(const heads_batch& batch, const heads_options<Depth>& options) {
    return !batch.choices.empty() || options.distils;
  }

  std::vector<token_t> index_;  // of tokens in the draft vocabulary, -1 outside of it  [V]
  std::vector<token_t> tokens_;
  std::vector<token_t> targets_;
  std::vector<std::uint8_t> exists_;  // whether there is a target, in the vocabulary or not  [D N]
  std::tuple<std::vector<float>, std::vector<double>> weights_;
  index_t N_ = 0;
  index_t D_ = 0;
};

}  // namespace mtp::inline MTP_ABI::detail
