// What one attention layer keeps of the positions that it has seen, of one sequence or of several:
// keys and values, or latents.
#pragma once

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// Rows of a pass that belong to one sequence. A pass over several has a run for each, one behind
/// the other.
struct row_run {
  index_t slot = 0;  ///< of the sequence
  index_t rows = 0;  ///< how many rows of the pass, at consecutive positions unless they are a tree
  /// Where the rows are a tree of drafts: for each row of the run, which one stands in front of it,
  /// a lower number; the first row has none, and its number is not read. In the backend's memory;
  /// null: each row stands behind the one before it.  [rows]
  const index_t* parents = nullptr;
};

/// The cache of a layer of latent attention for the sequences of `slots` slots: for each,
/// `capacity` rows of `width` elements, one for each position, which all heads share. Row p of slot
/// s begins at data + s * slot_stride + p * width. Rows from the length in use on are stale and
/// reach no result.
template <class Element, class Backend>
struct latent_cache_view {
  Element* data = nullptr;  ///< slots * slot_stride elements
  index_t capacity = 0;     ///< positions of a slot
  index_t width = 0;        ///< elements of a position
  index_t slots = 1;        ///< sequences
  index_t slot_stride = 0;  ///< elements from one slot to the next; 0 with one slot

  /// That of one slot alone.
  constexpr latent_cache_view at(index_t slot) const {
    return {data + slot * slot_stride, capacity, width};
  }
};

/// The cache of one attention layer for the sequences of `slots` slots: for each, `capacity`
/// positions of `num_key_value_heads` heads of width `head_dim`. The backend defines the
/// layout of a slot's kv_storage elements. Rows from the length in use on are stale and reach no
/// result, so a roll-back only sets a length.
template <class Element, class Backend>
struct cache_view {
  Element* data = nullptr;          ///< slots * slot_stride elements
  index_t capacity = 0;             ///< positions of a slot
  index_t num_key_value_heads = 0;  ///< G
  index_t head_dim = 0;             ///< E
  index_t slots = 1;                ///< sequences
  index_t slot_stride = 0;          ///< elements from one slot to the next; 0 with one slot

  /// That of one slot alone.
  constexpr cache_view at(index_t slot) const {
    return {data + slot * slot_stride, capacity, num_key_value_heads, head_dim};
  }
};

}  // namespace mtp::inline MTP_ABI
