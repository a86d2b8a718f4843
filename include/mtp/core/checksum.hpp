// XXH64, a 64-bit checksum, computed piece by piece. It detects damage, not forgery.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI {

static_assert(std::endian::native == std::endian::little,
              "xxh64: a little-endian machine is required");

/// XXH64 as in "xxHash fast digest algorithm", version 0.1.1 (xxHash, doc/xxhash_spec.md). The
/// digest depends only on the bytes, not on how they are divided among calls of update().
class xxh64 {
 public:
  /// An empty message.
  explicit xxh64(std::uint64_t seed = 0)
      : seed_(seed), lanes_{seed + prime_1 + prime_2, seed + prime_2, seed, seed - prime_1} {}

  /// Appends `bytes` to the message.
  void update(std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    length_ += bytes.size();
    if (pending_ > 0) {
      const std::size_t taken = (std::min)(stripe_bytes - pending_, bytes.size());
      std::memcpy(stripe_.data() + pending_, bytes.data(), taken);
      pending_ += taken;
      bytes = bytes.subspan(taken);
      if (pending_ < stripe_bytes) return;
      consume_stripe(stripe_.data());
      pending_ = 0;
    }
    for (; bytes.size() >= stripe_bytes; bytes = bytes.subspan(stripe_bytes)) {
      consume_stripe(bytes.data());
    }
    if (!bytes.empty()) std::memcpy(stripe_.data(), bytes.data(), bytes.size());
    pending_ = bytes.size();
  }

  /// The checksum of all bytes so far; more may follow.
  std::uint64_t digest() const {
    std::uint64_t sum = length_ >= stripe_bytes ? merged_lanes() : seed_ + prime_5;
    sum += length_;

    const std::byte* next = stripe_.data();
    const std::byte* const end = next + pending_;
    for (; end - next >= 8; next += 8) {
      sum = std::rotl(sum ^ round(0, load<std::uint64_t>(next)), 27) * prime_1 + prime_4;
    }
    if (end - next >= 4) {
      sum = std::rotl(sum ^ load<std::uint32_t>(next) * prime_1, 23) * prime_2 + prime_3;
      next += 4;
    }
    for (; next != end; ++next) {
      sum = std::rotl(sum ^ std::to_integer<std::uint64_t>(*next) * prime_5, 11) * prime_1;
    }

    sum = (sum ^ (sum >> 33)) * prime_2;
    sum = (sum ^ (sum >> 29)) * prime_3;
    return sum ^ (sum >> 32);
  }

 private:
  static constexpr std::size_t stripe_bytes = 32;
  static constexpr std::uint64_t prime_1 = 0x9e3779b185ebca87u;
  static constexpr std::uint64_t prime_2 = 0xc2b2ae3d27d4eb4fu;
  static constexpr std::uint64_t prime_3 = 0x165667b19e3779f9u;
  static constexpr std::uint64_t prime_4 = 0x85ebca77c2b2ae63u;
  static constexpr std::uint64_t prime_5 = 0x27d4eb2f165667c5u;

  template <std::unsigned_integral Word>
  static std::uint64_t load(const std::byte* from) {
    Word word;
    std::memcpy(&word, from, sizeof word);
    return word;
  }

  static std::uint64_t round(std::uint64_t lane, std::uint64_t word) {
    return std::rotl(lane + word * prime_2, 31) * prime_1;
  }

  void consume_stripe(const std::byte* stripe) {
    for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
      lanes_[lane] = round(lanes_[lane], load<std::uint64_t>(stripe + 8 * lane));
    }
  }

  std::uint64_t merged_lanes() const {
    std::uint64_t sum = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) +
                        std::rotl(lanes_[2], 12) + std::rotl(lanes_[3], 18);
    for (const std::uint64_t lane : lanes_) {
      sum = (sum ^ round(0, lane)) * prime_1 + prime_4;
    }
    return sum;
  }

  std::uint64_t seed_;
  std::array<std::uint64_t, 4> lanes_;
  std::array<std::byte, stripe_bytes> stripe_{};  // the first pending_ bytes wait for a full stripe
  std::size_t pending_ = 0;                       // bytes, less than stripe_bytes
  std::uint64_t length_ = 0;                      // bytes
};

/// 16 lower-case hexadecimal digits, most significant first.
inline std::string to_hex(std::uint64_t value) {
  std::string digits(16, '0');
  for (std::size_t i = digits.size(); i-- > 0; value >>= 4) {
    digits[i] = "0123456789abcdef"[value & 0xfu];
  }
  return digits;
}

}  // namespace mtp::inline MTP_ABI
