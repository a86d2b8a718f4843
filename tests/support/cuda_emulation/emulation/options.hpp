// How kernels are run, to be changed by tests or from the environment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "emulation/sanitizers.hpp"

namespace mtp::emulation {

/// When the data of an asynchronous copy arrives. A correct kernel cannot tell.
enum class copy_mode {
  eager,    ///< at once: what was still in use is overwritten early
  deferred  ///< when a wait asks for it: what is read without one is poison
};

struct options {
  /// 0 runs blocks and threads in order; each other number is another order.
  std::uint64_t seed = 0;
  copy_mode copies = copy_mode::deferred;
  /// Fresh shared and device memory is NaN (all bits set) and not zero.
  bool poison = true;

  /// Behind about so many reports of races, the rest of a launch causes none: they take long.
  long reported_races = 4;

  /// What the device says about itself.
  int multiprocessors = 4;
  int compute_major = 9;
  int compute_minor = 0;
  std::size_t memory_bytes = std::size_t{8} << 30;
  std::size_t block_shared_bytes = std::size_t{227} << 10;
  std::size_t multiprocessor_shared_bytes = std::size_t{228} << 10;
  /// Whether kernels have been compiled for it.
  bool has_code = true;
};

/// MTP_EMULATION_SEED=<number>, MTP_EMULATION_COPIES=eager|deferred, MTP_EMULATION_POISON=0|1.
inline options options_of_environment() {
  options result;
  if (const char* const seed = std::getenv("MTP_EMULATION_SEED")) {
    result.seed = std::strtoull(seed, nullptr, 0);
  }
  if (const char* const copies = std::getenv("MTP_EMULATION_COPIES")) {
    result.copies = std::string_view(copies) == "eager" ? copy_mode::eager : copy_mode::deferred;
  }
  if (const char* const poison = std::getenv("MTP_EMULATION_POISON")) {
    result.poison = std::string_view(poison) != "0";
  }
  return result;
}

/// In force from the next launch on.
inline options& settings() {
  static options current = options_of_environment();
  return current;
}

}  // namespace mtp::emulation
