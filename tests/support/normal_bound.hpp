// How far normal numbers of a device may be from the host's.
#pragma once

#include <cmath>
#include <type_traits>

#include "mtp/core/scalar.hpp"
#include "support/tolerance.hpp"

namespace mtp::test {

/// Emulated, a device has the logarithm and the cosine of the host.
#if defined(__CUDACC__)
inline constexpr bool draws_as_the_host = false;
#else
inline constexpr bool draws_as_the_host = true;
#endif

/// As ops/random.hpp promises of fill_normal for an element of `value`: one unit in the last place
/// or, of f64, what two logarithms and two cosines may differ by.
template <scalar S>
double normal_bound(double value) {
  if (draws_as_the_host) {
    return 0;
  }
  return std::abs(value) * (std::is_same_v<S, double> ? 8 * 0x1p-52 : 2 * unit_roundoff<S>);
}

}  // namespace mtp::test
