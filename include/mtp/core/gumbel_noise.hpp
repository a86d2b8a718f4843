// Gumbel noise: with it, drawing from a distribution becomes taking the largest of a row.
#pragma once

#include <cmath>
#include <cstdint>

#include "mtp/core/config.hpp"
#include "mtp/core/random.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// Standard Gumbel noise, one number for each token at a position of a sequence:
///
///     g[v] = -log(-log(1 - u[v])),  u[v] = (k[v] + 1/2) / 2^64
///
/// with 64 bits k[v] of Philox. The index of the largest z[v] + g[v] is v with probability
/// softmax(z)[v] (Maddison, Tarlow and Minka 2014, "A* sampling", section 2). The number is a
/// function of seed, sequence, position and token alone: the model and a draft add the same bits to
/// their logits, in any order and in any batch.
///
/// The logarithms are those of the host or of the device that draws. Their results differ by at
/// most 8 * 2^-52 (1 + |g|).
class gumbel_noise {
 public:
  /// Noise for position `position` of sequence `sequence`; a seed has 2^32 sequences.
  MTP_HOST_DEVICE constexpr gumbel_noise(seed seed, std::uint32_t sequence, index_t position)
      : seed_(seed), sequence_(sequence), position_(static_cast<std::uint64_t>(position)) {}

  /// k[v].
  MTP_HOST_DEVICE constexpr std::uint64_t bits(index_t token) const {
    const auto words = philox::block(
        {{static_cast<std::uint32_t>(token),
          purpose | static_cast<std::uint32_t>(position_ >> 32) << 8,
          static_cast<std::uint32_t>(position_),
          sequence_}},
        {{static_cast<std::uint32_t>(seed_.value), static_cast<std::uint32_t>(seed_.value >> 32)}});
    return std::uint64_t{words.words[1]} << 32 | words.words[0];
  }

  /// g of 64 bits k.
  MTP_HOST_DEVICE static double of(std::uint64_t k) {
    constexpr double largest = 1 - 0x1p-53;  // 1 - u must not round to 0
    const double u = (static_cast<double>(k) + 0.5) * 0x1p-64;
    return -std::log(-std::log1p(-(u < largest ? u : largest)));
  }

  /// An upper bound of g of 64 bits k. It is cheap, so most tokens need no logarithm.
  MTP_HOST_DEVICE static constexpr double bound(std::uint64_t k) {
    // u >= 2^-n gives g <= n log 2, here rounded up.
    return k >= std::uint64_t{1} << 63   ? 0.694
           : k >= std::uint64_t{1} << 61 ? 2.080
           : k >= std::uint64_t{1} << 57 ? 4.853
           : k >= std::uint64_t{1} << 48 ? 11.091
                                         : 45.055;
  }

  /// g[v].
  MTP_HOST_DEVICE double operator()(index_t token) const { return of(bits(token)); }

 private:
  // Separates these numbers from other uses of the seed. In its place random_stream has the upper
  // half of a block's number, which is 0 for the first 2^34 numbers of a stream.
  static constexpr std::uint32_t purpose = 0x47;

  seed seed_;
  std::uint32_t sequence_;
  std::uint64_t position_;
};

}  // namespace mtp::inline MTP_ABI
