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

/// How cublasLt says that it does not do a product.
enum class refusal {
  none,           ///< it does all of them
  not_supported,  ///< the search for an algorithm reports CUBLAS_STATUS_NOT_SUPPORTED
  no_algorithm,   ///< the search succeeds and finds none
  bad_state,      ///< it finds one that is not supported
  when_run        ///< it finds one, and cublasLtMatmul reports CUBLAS_STATUS_NOT_SUPPORTED
};

struct options {
  /// 0 runs blocks and threads in order; each other number is another order.
  std::uint64_t seed = 0;
  copy_mode copies = copy_mode::deferred;
  /// Fresh shared and device memory is NaN (all bits set) and not zero.
  bool poison = true;

  /// Which products cublasLt does not do: those that give it less than so many bytes of alignment
  /// for some matrix, for its first element or between columns. 0: none of them at all.
  std::uint32_t product_alignment = 1;
  refusal product_refusal = refusal::none;

  /// A kernel that is launched early finds memory as it was before the one in front of it until it
  /// has waited, see early.hpp. Holds for memory that is allocated meanwhile, which is copied for
  /// each block; not with ThreadSanitizer.
  bool early_kernels_see_the_past = false;

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
