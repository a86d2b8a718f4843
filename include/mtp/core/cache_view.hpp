// Keys and values of the positions that one attention layer has seen.
#pragma once

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// The cache of one attention layer for one sequence: `capacity` positions of `num_key_value_heads`
/// heads of width `head_dim`. The backend defines the layout of its kv_storage elements. Rows from
/// the length in use on are stale and reach no result, so a roll-back only sets a length.
template <class Element, class Backend>
struct cache_view {
  Element* data = nullptr;          ///< kv_storage elements
  index_t capacity = 0;             ///< positions
  index_t num_key_value_heads = 0;  ///< G
  index_t head_dim = 0;             ///< E
};

}  // namespace mtp::inline MTP_ABI
