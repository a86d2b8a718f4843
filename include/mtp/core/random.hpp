// Counter-based random numbers: Philox4x32-10.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "mtp/core/config.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// A seed, named at the call: `mtp::seed{42}`.
struct seed {
  std::uint64_t value = 0;  ///< all 64 bits count
};

/// Philox4x32 with ten rounds: a bijection of 128-bit counters under a 64-bit key. The same counter
/// and key give the same numbers on every machine, in any order, on any thread. Salmon et al. 2011,
/// "Parallel random numbers: as easy as 1, 2, 3", section 3.3.
class philox {
 public:
  /// The counter, and the random bits that it becomes.
  struct counter_type {
    std::uint32_t words[4];  ///< least significant first
    /// Compares word by word.
    friend constexpr bool operator==(const counter_type&, const counter_type&) = default;
  };
  /// The key.
  struct key_type {
    std::uint32_t words[2];  ///< least significant first
  };

  /// Four words of 32 random bits: the image of `counter` under `key`.
  MTP_HOST_DEVICE static constexpr counter_type block(counter_type counter, key_type key) {
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * counter.words[0];
      const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * counter.words[2];
      counter = {{static_cast<std::uint32_t>(product1 >> 32) ^ counter.words[1] ^ key.words[0],
                  static_cast<std::uint32_t>(product1),
                  static_cast<std::uint32_t>(product0 >> 32) ^ counter.words[3] ^ key.words[1],
                  static_cast<std::uint32_t>(product0)}};
      key = {{key.words[0] + 0x9E3779B9u, key.words[1] + 0xBB67AE85u}};
    }
    return counter;
  }
};

/// Random numbers addressed by (seed, stream, position). They are a pure function: a resumed run
/// needs the seed only, and the order of calls changes nothing.
class random_stream {
 public:
  /// `stream` separates uses of one seed: each parameter and each order of data has its own.
  MTP_HOST_DEVICE constexpr random_stream(seed seed, std::uint64_t stream)
      : seed_(seed), stream_(stream) {}

  /// 32 uniform bits.
  MTP_HOST_DEVICE constexpr std::uint32_t bits(std::uint64_t position) const {
    return block(position / 4).words[position % 4];
  }

  /// Uniform in [0, 1), 32 bits of resolution.
  MTP_HOST_DEVICE constexpr double uniform(std::uint64_t position) const {
    return static_cast<double>(bits(position)) * 0x1p-32;
  }

  /// Uniform in {0, ..., count - 1}; the bias is below count / 2^64. `count` must be positive.
  MTP_HOST_DEVICE constexpr std::uint64_t below(std::uint64_t position, std::uint64_t count) const {
    const auto block_of = block(position);
    const std::uint64_t value = (std::uint64_t{block_of.words[0]} << 32) | block_of.words[1];
    __extension__ typedef unsigned __int128 wide;
    return static_cast<std::uint64_t>((static_cast<wide>(value) * count) >> 64);
  }

  /// Standard normal by Box and Muller, from a block of four words for each number: sqrt(-2 ln u)
  /// cos(2 pi v) with u in (0, 1) and v in [0, 1) of 32 bits each. Logarithm and cosine are those
  /// of the host or of the device, and the last bits may differ.
  MTP_HOST_DEVICE double normal(std::uint64_t position) const {
    const auto block_of = block(position);
    const double u = (static_cast<double>(block_of.words[0]) + 0.5) * 0x1p-32;
    const double v = static_cast<double>(block_of.words[1]) * 0x1p-32;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
  }

 private:
  MTP_HOST_DEVICE constexpr philox::counter_type block(std::uint64_t index) const {
    return philox::block(
        {{static_cast<std::uint32_t>(index),
          static_cast<std::uint32_t>(index >> 32),
          static_cast<std::uint32_t>(stream_),
          static_cast<std::uint32_t>(stream_ >> 32)}},
        {{static_cast<std::uint32_t>(seed_.value), static_cast<std::uint32_t>(seed_.value >> 32)}});
  }

  seed seed_;
  std::uint64_t stream_;
};

}  // namespace mtp::inline MTP_ABI
