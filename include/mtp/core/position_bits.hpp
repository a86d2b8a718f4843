// Random bits for decisions about the token at a position of a sequence.
#pragma once

#include <cstdint>

#include "mtp/core/config.hpp"
#include "mtp/core/random.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// 64 uniform bits for each purpose: words of Philox at the counter (round, purpose, position,
/// sequence) under the seed. Each purpose has a counter of its own, apart from those of
/// gumbel_noise and random_stream, so bits of different purposes, positions or rounds are
/// independent.
class position_bits {
 public:
  /// What bits decide.
  enum purpose : std::uint32_t {
    draft = 0x44,     ///< which token a head drafts
    accept = 0x41,    ///< whether a draft is accepted
    residual = 0x52,  ///< which token stands where no draft was accepted
  };

  /// Of token number `position` of sequence `sequence`, of which a seed has 2^32. Where a position
  /// is decided about more than once, and what was decided before depends on the bits, each time is
  /// a round of its own.
  MTP_HOST_DEVICE constexpr position_bits(seed seed,
                                          std::uint32_t sequence,
                                          index_t position,
                                          index_t round = 0)
      : seed_(seed),
        sequence_(sequence),
        position_(static_cast<std::uint64_t>(position)),
        round_(static_cast<std::uint32_t>(round)) {}

  /// The bits for a purpose.
  MTP_HOST_DEVICE constexpr std::uint64_t operator()(purpose what) const {
    const auto words = philox::block(
        {{round_,
          static_cast<std::uint32_t>(what) | static_cast<std::uint32_t>(position_ >> 32) << 8,
          static_cast<std::uint32_t>(position_),
          sequence_}},
        {{static_cast<std::uint32_t>(seed_.value), static_cast<std::uint32_t>(seed_.value >> 32)}});
    return std::uint64_t{words.words[1]} << 32 | words.words[0];
  }

 private:
  seed seed_;
  std::uint32_t sequence_;
  std::uint64_t position_;
  std::uint32_t round_;
};

}  // namespace mtp::inline MTP_ABI
