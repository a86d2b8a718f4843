// What this processor reaches at best, measured in the same run: what shares are shares of.
#pragma once

#include <cstddef>

namespace mtp::bench {

/// All threads of context() together; the best of several tries each.
struct peaks {
  double multiply_add;       ///< flop/s of independent chains of f32 multiply-adds in registers
  double copy_bytes;         ///< bytes read and written per second by memcpy, beyond the caches
  double triad_bytes;        ///< bytes per second of a[i] = b[i] + s c[i], beyond the caches
  std::size_t memory_bytes;  ///< of the arrays of copy and triad together
};

/// Measured by the first call.
const peaks& measured_peaks();

}  // namespace mtp::bench
