// Memory handed out front to back and given back all at once.
#pragma once

#include <cstddef>
#include <limits>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// Alignment of everything that an arena hands out, in bytes: a cache line, and the widest vector.
inline constexpr index_t arena_alignment = 64;

/// Bytes that `count` elements of `element_bytes` bytes occupy in an arena. Throws mtp::error for a
/// negative number and for more bytes than index_t counts.
constexpr index_t arena_bytes(index_t count, index_t element_bytes) {
  constexpr index_t most = (std::numeric_limits<index_t>::max)() - arena_alignment;
  check(count >= 0 && (count == 0 || element_bytes <= most / count),
        "arena_bytes: ",
        count,
        " elements of ",
        element_bytes,
        " bytes do not fit into memory");
  return round_up(count * element_bytes, arena_alignment);
}

/// Hands out pieces of one block of memory. An arena::scope gives back, when it ends, the pieces
/// that were taken during its life.
class arena {
 public:
  arena() = default;
  /// Hands out `bytes` bytes at `memory`, which must be aligned to arena_alignment and outlive the
  /// arena. Throws mtp::error for a negative number.
  arena(std::byte* memory, index_t bytes) : memory_(memory), capacity_(bytes) {
    check(bytes >= 0, "arena: the number of bytes must not be negative, got ", bytes);
  }

  /// `count` elements, not initialized. Throws mtp::error for a negative number, and when the block
  /// is used up, which means that it was planned too small.
  template <class Element>
  Element* take(index_t count) {
    const index_t bytes = arena_bytes(count, static_cast<index_t>(sizeof(Element)));
    check(bytes <= capacity_ - used_,
          "arena::take: ",
          bytes,
          " bytes requested, ",
          capacity_ - used_,
          " of ",
          capacity_,
          " left; reserve more before the first step");
    auto* piece = reinterpret_cast<Element*>(memory_ + used_);
    used_ += bytes;
    return piece;
  }

  /// The block.
  std::byte* memory() const { return memory_; }
  /// Bytes handed out at present.
  index_t used() const { return used_; }
  /// Bytes of the block.
  index_t capacity() const { return capacity_; }

  /// Pieces may be taken during its life. Its end gives them back.
  class scope {
   public:
    /// `owner` must outlive the scope. Scopes end in the reverse of their order.
    [[nodiscard("arena::scope: without a name it ends at once")]] explicit scope(arena& owner)
        : owner_(owner), mark_(owner.used_) {}
    ~scope() { owner_.used_ = mark_; }
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;

   private:
    arena& owner_;
    index_t mark_;
  };

 private:
  std::byte* memory_ = nullptr;
  index_t capacity_ = 0;
  index_t used_ = 0;
};

/// Counts the bytes that an arena would hand out, at compile time if asked to. The code that lays
/// out memory runs with a plan in place of an arena to learn the size.
class arena_plan {
 public:
  /// Counts `count` elements and returns null. Throws mtp::error as arena_bytes does, also for the
  /// sum.
  template <class Element>
  constexpr Element* take(index_t count) {
    const index_t bytes = arena_bytes(count, static_cast<index_t>(sizeof(Element)));
    check(bytes <= (std::numeric_limits<index_t>::max)() - bytes_,
          "arena_plan: ",
          bytes_,
          " and ",
          bytes,
          " bytes do not fit into memory");
    bytes_ += bytes;
    return nullptr;
  }
  /// Bytes counted so far.
  constexpr index_t bytes() const { return bytes_; }

 private:
  index_t bytes_ = 0;
};

/// Bytes that `lay_out`, called with an arena or an arena_plan, takes from it.
template <class LayOut>
constexpr index_t bytes_taken(const LayOut& lay_out) {
  arena_plan plan;
  static_cast<void>(lay_out(plan));
  return plan.bytes();
}

/// Memory for several objects of one layout, one after the other. The layout is a function of an
/// arena that returns views; it is called anew for each request.
class repeated_memory {
 public:
  repeated_memory() = default;

  /// Takes `count` times the memory that `lay_out` takes from an arena, or counts it with an
  /// arena_plan.
  template <class Arena, class LayOut>
  static constexpr repeated_memory take(Arena& arena, index_t count, const LayOut& lay_out) {
    repeated_memory taken;
    taken.bytes_ = bytes_taken(lay_out);
    taken.memory_ = arena.template take<std::byte>(count * taken.bytes_);
    return taken;
  }

  /// Object number `n`, in a layout that takes no more bytes than the one at construction.
  template <class LayOut>
  auto at(index_t n, const LayOut& lay_out) const {
    arena piece(memory_ + n * bytes_, bytes_);
    return lay_out(piece);
  }

 private:
  std::byte* memory_ = nullptr;
  index_t bytes_ = 0;  // of one
};

}  // namespace mtp::inline MTP_ABI
