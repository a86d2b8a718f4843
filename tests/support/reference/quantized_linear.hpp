// Reference of ops/quantize.hpp: numbers and scales of weights and rows, and the map that they
// give.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "cpu/chain.hpp"
#include "mtp/core/scalar.hpp"
#include "support/reference/array.hpp"

namespace mtp::test::reference {

/// Rows in 8 bits: an integer for each element, a scale for each row and group of 128.
struct quantized {
  array<2> numbers;
  array<2> scales;
};

/// Integers up to `most`; the scale is that of the largest element, rounded up to bf16 for weights,
/// which have 127, and not for rows, which have 32512.
inline quantized quantize(const array<2>& x, float most) {
  const bool rounds_up = most == 127;
  const index_t rows = x.size(0), inputs = x.size(1), groups = ceil_div(inputs, 128);
  quantized made{array<2>({rows, inputs}), array<2>({rows, groups})};
  for (index_t m = 0; m < rows; ++m) {
    for (index_t g = 0; g < groups; ++g) {
      const index_t end = std::min(inputs, (g + 1) * 128);
      double largest = 0;
      bool finite = true;
      for (index_t k = g * 128; k < end; ++k) {
        finite = finite && std::isfinite(x(m, k));
        largest = std::max(largest, std::abs(x(m, k)));
      }
      double& scale = made.scales(m, g);
      if (!finite) {
        scale = std::numeric_limits<double>::quiet_NaN();
      } else if (largest >= 0x1p-100) {
        // A bf16 has 8 significant bits.
        const double unit = std::ldexp(1.0, std::ilogb(largest / most) - 7);
        scale = rounds_up ? std::ceil(largest / most / unit) * unit
                          : static_cast<double>(static_cast<float>(largest) / most);
        const double inverse =
            rounds_up ? 1 / scale : static_cast<double>(most / static_cast<float>(largest));
        for (index_t k = g * 128; k < end; ++k) {
          made.numbers(m, k) = std::nearbyint(rounds_up ? x(m, k) / scale : x(m, k) * inverse);
        }
      }
    }
  }
  return made;
}

/// The chain that the operation promises, for one row and output, from `start` on.
inline float quantized_chain(
    const quantized& x, const quantized& w, index_t m, index_t n, float start) {
  float sum = start;
  for (index_t g = 0; g < w.scales.size(1); ++g) {
    double integer = 0;
    for (index_t k = g * 128; k < std::min(w.numbers.size(1), (g + 1) * 128); ++k) {
      integer += w.numbers(n, k) * x.numbers(m, k);
    }
    const float scale = static_cast<float>(w.scales(n, g)) * static_cast<float>(x.scales(m, g));
    sum = cpu_products::multiply_add(static_cast<float>(integer), scale, sum);
  }
  return sum;
}

/// How far the sum of a row and output may be from that of the elements themselves: each is rounded
/// by half of its scale.
inline double quantization_bound(const array<2>& x,
                                 const array<2>& w,
                                 const quantized& qx,
                                 const quantized& qw,
                                 index_t m,
                                 index_t n) {
  double bound = 0, magnitude = 0;
  for (index_t k = 0; k < x.size(1); ++k) {
    // A row's number is rounded from a product in f32, so it may be a neighbour's.
    const double dx = 0.5001 * qx.scales(m, k / 128), dw = 0.5 * qw.scales(n, k / 128);
    bound += std::abs(w(n, k)) * dx + std::abs(x(m, k)) * dw + dx * dw;
    magnitude += (std::abs(w(n, k)) + dw) * (std::abs(x(m, k)) + dx);
  }
  // A scale of two roundings, a sum that is rounded and one link for each group, and the start.
  return bound + static_cast<double>(3 * qw.scales.size(1) + 3) * 0x1p-24 * magnitude;
}

}  // namespace mtp::test::reference
