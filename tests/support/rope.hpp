// Tables of angles for tests of rotary positions.
#pragma once

#include <cmath>
#include <vector>

#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/reference/rope.hpp"

namespace mtp::test {

inline constexpr double rope_theta = 10000;

/// Cosines in the first half of the columns, sines in the second; `gap` elements between rows.
template <class A, class B>
guarded<A, 2, B> rope_table(index_t positions, index_t E, index_t gap = 3) {
  std::vector<double> table;
  for (index_t p = 0; p < positions; ++p) {
    for (index_t c = 0; c < E; ++c) {
      const double a = reference::rope_angle(p, c % (E / 2), E, rope_theta);
      table.push_back(c < E / 2 ? std::cos(a) : std::sin(a));
    }
  }
  return {dims<2>{positions, E}, strides(E + gap, 1), table};
}

}  // namespace mtp::test
