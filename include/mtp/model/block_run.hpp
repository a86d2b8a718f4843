// Equal blocks, one after the other: where their parameters, activations and caches lie.
#pragma once

#include <string>

#include "mtp/core/arena.hpp"
#include "mtp/model/parameter.hpp"

namespace mtp::inline MTP_ABI {

/// Parameters of `count` blocks. All are laid out alike, so a place is the first one's, some
/// strides further on.
template <class Block, class Backend, scalar S>
struct block_run {
  index_t begin = 0;   ///< elements in front of the first block
  index_t stride = 0;  ///< elements from one block to the next
  int count = 0;       ///< how many blocks

  /// Takes their places from a parameter_cursor.
  static constexpr block_run make(parameter_cursor<Backend, S>& cursor, int count) {
    parameter_cursor<Backend, S> behind(cursor.offset());
    static_cast<void>(Block::layout::make(behind));
    const block_run run{cursor.offset(), behind.offset() - cursor.offset(), count};
    cursor.skip(run.stride * count);
    return run;
  }

  /// Places of block number `n`.
  constexpr typename Block::layout at(int n) const {
    parameter_cursor<Backend, S> cursor(begin + n * stride);
    return Block::layout::make(cursor);
  }

  /// visitor(name, parameter) for each parameter; block n is called "layers." and `first` + n.
  template <class Visitor>
  void visit(int first, Visitor&& visitor) const {
    for (int n = 0; n < count; ++n) {
      at(n).visit("layers." + std::to_string(first + n) + ".", visitor);
    }
  }
};

/// Activations of `count` blocks for N rows.
template <class Block>
class run_activations {
 public:
  /// Takes the memory from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr run_activations make(Arena& arena, int count, index_t N) {
    run_activations made;
    made.rows_ = N;
    made.memory_ = repeated_memory::take(arena, count, layout(N));
    return made;
  }
  /// Those of block number `n`.
  typename Block::activations at(int n) const { return memory_.at(n, layout(rows_)); }

 private:
  static constexpr auto layout(index_t N) {
    return [N](auto& arena) { return Block::activations::make(arena, N); };
  }

  repeated_memory memory_;
  index_t rows_ = 0;
};

/// Caches of `count` blocks for the sequences of `slots` slots.
template <class Block>
class run_caches {
 public:
  /// Takes the memory from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr run_caches make(Arena& arena, int count, index_t slots) {
    run_caches made;
    made.slots_ = slots;
    made.memory_ = repeated_memory::take(arena, count, layout(slots));
    return made;
  }
  /// That of block number `n`.
  typename Block::cache at(int n) const { return memory_.at(n, layout(slots_)); }
  /// What slot `to` of each of the `count` caches holds (=) what slot `from` does.
  template <class Context>
  void copy_slot(Context& context, int count, index_t to, index_t from) const {
    for (int n = 0; n < count; ++n) {
      Block::copy_cache(context, at(n), to, from);
    }
  }
  /// keep_path of each of the `count` caches.
  template <class Context, class Sequence>
  void keep_path(Context& context, int count, const Sequence& sequence, index_t rows) const {
    for (int n = 0; n < count; ++n) {
      Block::keep_path(context, at(n), sequence, rows);
    }
  }

 private:
  static constexpr auto layout(index_t slots) {
    return [slots](auto& arena) { return Block::make_cache(arena, slots); };
  }

  repeated_memory memory_;
  index_t slots_ = 0;
};

}  // namespace mtp::inline MTP_ABI
