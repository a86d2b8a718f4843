// The latest rows of a stream, for each of several sequences.
#pragma once

#include <cstddef>

#include "mtp/core/view.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// For the sequence in each slot, its stream's latest `length` rows of C elements.
template <class S, class Backend>
class row_ring {
 public:
  using matrix = matrix_view<S, Backend>;  ///< rows of the stream

  /// Takes the memory from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr row_ring make(Arena& arena, index_t slots, index_t length, index_t C) {
    row_ring made;
    made.length_ = length;
    made.rows_ = {arena.template take<S>(slots * length * C), {slots * length, C}};
    return made;
  }

  /// That of a slot: what store_rows and load_rows are given.  [length, C]
  matrix at(index_t slot) const { return rows_.slice(0, slot * length_, length_); }

  /// store_rows for each run of a pass.  rows [M, C], positions [M]
  void store(context<Backend>& context,
             const pass_rows& list,
             matrix_view<const S, Backend> rows,
             vector_view<const index_t, Backend> positions) const {
    for (std::size_t i = 0; i < list.runs().size(); ++i) {
      store_rows(context, at(list.runs()[i].slot), list.part(i, rows), list.part(i, positions));
    }
  }
  /// load_rows for each run of a pass.  rows [M, C], positions [M]
  void load(context<Backend>& context,
            const pass_rows& list,
            matrix rows,
            vector_view<const index_t, Backend> positions) const {
    for (std::size_t i = 0; i < list.runs().size(); ++i) {
      load_rows(context, list.part(i, rows), at(list.runs()[i].slot), list.part(i, positions));
    }
  }

 private:
  matrix rows_{nullptr, {0, 0}};  // [slots * length, C]
  index_t length_ = 0;
};

}  // namespace mtp::inline MTP_ABI
