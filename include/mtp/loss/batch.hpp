// What a loss is given and what it gives.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

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

/// What a batch gave at one depth.
struct depth_report {
  double loss = 0;       ///< nats per target, divided as loss_normalization says
  double agreement = 0;  ///< share of counted targets that were the most likely token
  index_t targets = 0;   ///< targets that counted
};

/// What a batch gave.
template <int Depth>
struct loss_report {
  double total = 0;  ///< weighted sum over depths, what gradients are of
  std::array<depth_report, static_cast<std::size_t>(Depth) + 1> depths{};  ///< 0 .. D
};

}  // namespace mtp::inline MTP_ABI
