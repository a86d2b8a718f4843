// How many rows decoding may give an operation, and the pieces in which kernels for few rows take
// them.
#pragma once

#include <algorithm>

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Up to so many rows, the operations that decoding consists of give a row the same bits in any
/// company: a verification of depth D has D + 1. More rows are training or a piece of a prompt, and
/// may go to a library that chooses the order of a sum by their number.
inline constexpr index_t invariant_rows = 64;

/// body(first, count) for at most `size` of `rows` rows at a time, in order.
template <class Body>
void in_pieces(index_t rows, index_t size, const Body& body) {
  for (index_t first = 0; first < rows; first += size) {
    body(first, (std::min)(size, rows - first));
  }
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
