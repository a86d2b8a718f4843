// What this processor reaches at best, measured in the same run: what shares are shares of.
//
// A machine that is shared reaches less at some moments than at others. So each peak is measured
// again whenever a benchmark asks for it, and the best so far counts.
#pragma once

#include <cstddef>

namespace mtp::bench {

/// flop/s of independent chains of f32 multiply-adds in registers, all threads of context()
/// together.
double multiply_add_peak();

/// Rates in bytes per second, read and written ones together, by one thread or by all, whichever is
/// faster.
struct bandwidth {
  double read = 0;   ///< sums up one array
  double copy = 0;   ///< b[i] = a[i], by memcpy
  double triad = 0;  ///< a[i] = b[i] + s c[i]

  /// What no operation on so many bytes should exceed.
  double best() const;
};

/// Of arrays that have about `bytes` together, again and again: those that fit into a cache move
/// faster.
bandwidth bandwidth_peak(double bytes);

/// Bytes of arrays that exceed the last-level cache several times.
std::size_t bytes_beyond_caches();

}  // namespace mtp::bench
