// The most rows of an operation in decoding, and the pieces in which kernels for few rows process
// them.
#pragma once

#include <algorithm>

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Up to this many rows, the operations of decoding give a row the same bits in any company; a
/// verification of depth D has D + 1 rows. More rows belong to training or to a piece of a prompt,
/// and may go to a library that chooses the order of a sum by their number.
inline constexpr index_t invariant_rows = 64;

/// Calls body(first, count) for at most `size` of `rows` rows at a time, in order.
template <class Body>
void in_pieces(index_t rows, index_t size, const Body& body) {
  for (index_t first = 0; first < rows; first += size) {
    body(first, (std::min)(size, rows - first));
  }
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
