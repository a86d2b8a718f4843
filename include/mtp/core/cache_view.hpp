// Keys and values of the positions that one attention layer has seen.
#pragma once

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// The cache of one attention layer for one sequence: `capacity` positions of `num_key_value_heads`
/// heads of width `head_dim`. The layout belongs to the backend (kv_storage elements in all). What
/// lies at or behind the length in use is stale and reaches no result: rolling back is setting a
/// length.
template <class Element, class Backend>
struct cache_view {
  Element* data = nullptr;          ///< kv_storage elements
  index_t capacity = 0;             ///< positions
  index_t num_key_value_heads = 0;  ///< G
  index_t head_dim = 0;             ///< E
};

}  // namespace mtp::inline MTP_ABI
