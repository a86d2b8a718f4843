// The input of a loss, a batch, and its result.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// B sequences of T positions, each with its next token and D more: [B, T + 1 + D], row by row.
struct batch_view {
  std::span<const token_t> tokens;         ///< [B, T + 1 + D]
  std::span<const std::int32_t> segments;  ///< document of each token; empty: one  [B, T + 1 + D]
  std::span<const std::uint8_t> mask;      ///< 0: never a target; empty: all are  [B, T + 1 + D]
  index_t batch = 0;                       ///< B
  index_t length = 0;                      ///< T
};

/// Throws mtp::error unless tokens, segments and mask have the sizes that batch and length imply
/// (segments and mask may be empty) and all tokens lie in [0, vocabulary).
inline void check_tokens(const batch_view& batch, index_t depth, index_t vocabulary) {
  const index_t row = batch.length + depth + 1;
  const auto count = static_cast<std::size_t>(batch.batch * row);
  check(batch.tokens.size() == count,
        "model_loss: expected ",
        count,
        " tokens ([",
        batch.batch,
        ", ",
        batch.length,
        " + 1 + ",
        depth,
        "]), got ",
        batch.tokens.size());
  check(batch.segments.empty() || batch.segments.size() == count,
        "model_loss: expected ",
        count,
        " segments, got ",
        batch.segments.size());
  check(batch.mask.empty() || batch.mask.size() == count,
        "model_loss: expected ",
        count,
        " mask values, got ",
        batch.mask.size());
  for (std::size_t n = 0; n < count; ++n) {
    check(batch.tokens[n] >= 0 && batch.tokens[n] < vocabulary,
          "model_loss: token ",
          batch.tokens[n],
          " at position ",
          n,
          " does not lie in [0, ",
          vocabulary,
          ")");
  }
}

/// Whether the token at `there` is a target of the position at `here`: it is not masked and belongs
/// to the same document. Both are indices into the whole batch.
inline bool is_target(const batch_view& batch, std::size_t here, std::size_t there) {
  return (batch.mask.empty() || batch.mask[there] != 0) &&
         (batch.segments.empty() || batch.segments[there] == batch.segments[here]);
}

/// Numbers of targets of depths 0 .. D.
template <int Depth>
using target_counts = std::array<index_t, static_cast<std::size_t>(Depth) + 1>;

/// Adds the numbers of targets of a batch [B, T + 1 + D] to `counts`.
template <int Depth>
void count_targets(target_counts<Depth>& counts, const batch_view& batch) {
  const index_t row = batch.length + Depth + 1;
  for (index_t b = 0; b < batch.batch; ++b) {
    for (index_t i = 0; i < batch.length; ++i) {
      const auto here = static_cast<std::size_t>(b * row + i);
      for (std::size_t k = 0; k < counts.size(); ++k) {
        counts[k] += is_target(batch, here, here + 1 + k) ? 1 : 0;
      }
    }
  }
}

/// The result of a batch at one depth.
struct depth_report {
  double loss = 0;       ///< nats per target, divided as loss_normalization says
  double agreement = 0;  ///< share of targets that were the most likely token
  index_t targets = 0;   ///< number of targets
  index_t agreed = 0;    ///< how many of them were the most likely token

  /// agreement = agreed / targets, 0 without targets.
  void count_agreement() {
    agreement = static_cast<double>(agreed) / static_cast<double>((std::max<index_t>)(targets, 1));
  }
};

/// The result of a batch.
template <int Depth>
struct loss_report {
  double total = 0;  ///< weighted sum over depths; gradients are of this and of `balance`
  /// The loss that keeps the experts of sequences balanced, of all routers, with its factor
  /// (loss_options::aux_loss_alpha): over that and the number of routers, 1 is even. 0 without
  /// gradients, which alone compute it.
  double balance = 0;
  std::array<depth_report, static_cast<std::size_t>(Depth) + 1> depths{};  ///< 0 .. D
};

}  // namespace mtp::inline MTP_ABI
