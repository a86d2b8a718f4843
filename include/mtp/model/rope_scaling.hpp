// Part of a configuration: rotary frequencies for longer sequences than a model was first trained
// on.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// How rotary frequencies are changed.
enum class rope_scaling_kind {
  none,    ///< they are not
  linear,  ///< all are divided by the factor (Chen et al. 2023, arXiv 2306.15595)
  llama3,  ///< low ones are divided by the factor, as in Llama 3.1
  yarn,    ///< NTK by parts, and longer rows of cos and sin (Peng et al. 2023, arXiv 2309.00071)
};

/// The change. Fields have the names of Hugging Face configurations; a kind ignores those of
/// others.
struct rope_scaling_config {
  rope_scaling_kind kind = rope_scaling_kind::none;  ///< how
  float factor = 1;                                  ///< s: how much longer sequences may be
  int original_max_position_embeddings = 0;          ///< P0: the length before; llama3, yarn
  float low_freq_factor = 1;                         ///< llama3
  float high_freq_factor = 4;                        ///< llama3
  float beta_fast = 32;                              ///< turns within P0; yarn
  float beta_slow = 1;                               ///< turns within P0; yarn
  float attention_factor = 0;                        ///< m; 0: 0.1 ln s + 1; yarn
  float mscale_all_dim = 0;  ///< of all scores of latent attention: rope_score_factor; yarn

  /// Compares all fields.
  friend constexpr bool operator==(const rope_scaling_config&,
                                   const rope_scaling_config&) = default;
};

namespace detail {

/// Fails to compile, with a message, for a scaling that makes no frequencies.
template <rope_scaling_config Scaling>
constexpr bool validate_rope_scaling() {
  using enum rope_scaling_kind;
  static_assert(Scaling.kind == none || Scaling.factor >= 1,
                "rope_scaling_config: factor must be at least 1");
  static_assert(Scaling.kind == none || Scaling.kind == linear ||
                    Scaling.original_max_position_embeddings > 0,
                "rope_scaling_config: original_max_position_embeddings must be positive");
  static_assert(Scaling.kind != llama3 || (Scaling.low_freq_factor > 0 &&
                                           Scaling.high_freq_factor > Scaling.low_freq_factor),
                "rope_scaling_config: high_freq_factor must be larger than low_freq_factor, and "
                "both positive");
  static_assert(
      Scaling.kind != yarn || (Scaling.beta_slow > 0 && Scaling.beta_fast >= Scaling.beta_slow &&
                               Scaling.attention_factor >= 0 && Scaling.mscale_all_dim >= 0),
      "rope_scaling_config: beta_fast must be at least beta_slow, which must be positive, and "
      "attention_factor and mscale_all_dim must not be negative");
  return true;
}

/// The number of the pair that turns `turns` times within P0 positions: E ln(P0 / (2 pi turns)) /
/// (2 ln theta).
inline double pair_of_turns(double turns, double length, double E, double theta) {
  return E * std::log(length / (2 * std::numbers::pi * turns)) / (2 * std::log(theta));
}

}  // namespace detail

/// The angle between the positions 0 and 1 of pair e of a head of width E. With f = theta^(-2e / E)
/// and s, P0 as above:
///
///     none      f
///     linear    f / s
///     llama3    f                          where P0 f / (2 pi) > high_freq_factor
///               f / s                      where P0 f / (2 pi) < low_freq_factor
///               (1 - w) f / s + w f        between, w = (P0 f / (2 pi) - low) / (high - low)
///     yarn      r f / s + (1 - r) f        r = clamp((e - a) / (b - a), 0, 1),
///               a = max(floor(pair(beta_fast)), 0), b = min(ceil(pair(beta_slow)), E - 1),
///               pair(n) = E ln(P0 / (2 pi n)) / (2 ln theta), and b = a + 0.001 where a = b
inline double rope_frequency(const rope_scaling_config& scaling,
                             double theta,
                             index_t e,
                             index_t E) {
  const double f = std::pow(theta, -2.0 * static_cast<double>(e) / static_cast<double>(E));
  const double s = static_cast<double>(scaling.factor);
  const double length = scaling.original_max_position_embeddings;
  switch (scaling.kind) {
    case rope_scaling_kind::linear:
      return f / s;
    case rope_scaling_kind::llama3: {
      const double low = static_cast<double>(scaling.low_freq_factor);
      const double high = static_cast<double>(scaling.high_freq_factor);
      const double turns = length * f / (2 * std::numbers::pi);
      const double w = std::clamp((turns - low) / (high - low), 0.0, 1.0);
      return (1 - w) * f / s + w * f;
    }
    case rope_scaling_kind::yarn: {
      const double width = static_cast<double>(E);
      const auto pair = [&](float turns) {
        return detail::pair_of_turns(static_cast<double>(turns), length, width, theta);
      };
      const double a = (std::max)(std::floor(pair(scaling.beta_fast)), 0.0);
      double b = (std::min)(std::ceil(pair(scaling.beta_slow)), width - 1);
      if (a == b) b += 0.001;
      const double r = std::clamp((static_cast<double>(e) - a) / (b - a), 0.0, 1.0);
      return r * f / s + (1 - r) * f;
    }
    default:
      return f;
  }
}

/// What cos and sin are multiplied by: m of yarn, else 1.
inline double rope_magnitude(const rope_scaling_config& scaling) {
  if (scaling.kind != rope_scaling_kind::yarn) return 1;
  return scaling.attention_factor > 0 ? static_cast<double>(scaling.attention_factor)
                                      : 0.1 * std::log(static_cast<double>(scaling.factor)) + 1;
}

/// What multi-head latent attention multiplies all scores by, besides 1 / sqrt(width of a query):
/// (0.1 mscale_all_dim ln s + 1)^2 of yarn, else 1. DeepSeek's models have it in place of the
/// factor of cos and sin, which reaches the rotated elements alone; their attention_factor is then
/// the ratio of both, 1 in DeepSeek-V3.
inline double rope_score_factor(const rope_scaling_config& scaling) {
  if (scaling.kind != rope_scaling_kind::yarn) return 1;
  const double m = 0.1 * static_cast<double>(scaling.mscale_all_dim) *
                       std::log(static_cast<double>(scaling.factor)) +
                   1;
  return m * m;
}

}  // namespace mtp::inline MTP_ABI
