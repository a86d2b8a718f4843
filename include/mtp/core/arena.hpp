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

/// Hands out pieces of one block of memory. Giving back is by scope: see arena::scope.
class arena {
 public:
  arena() = default;
  /// Hands out `bytes` bytes at `memory`, which must be aligned to arena_alignment and outlive the
  /// arena. Throws mtp::error for a negative number.
  arena(std::byte* memory, index_t bytes) : memory_(memory), capacity_(bytes) {
    check(bytes >= 0, "arena: the number of bytes must not be negative, got ", bytes);
  }

  /// `count` elements, not initialized. Throws mtp::error for a negative number, and when the block
  /// is used up: its size was planned wrongly.
  template <class Element>
  Element* take(index_t count) {
    const index_t bytes = arena_bytes(count, static_cast<index_t>(sizeof(Element)));
    check(bytes <= capacity_ - used_,
          "arena::take: ",
          bytes,
          " bytes wanted, ",
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

  /// While it lives, pieces may be taken; when it ends, they are given back.
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

/// Counts what an arena would hand out, at compile time if asked to: the same code that lays out
/// activations in an arena tells their size when it is given a plan.
class arena_plan {
 public:
  /// Counts `count` elements; the pointer is null. Throws mtp::error as arena_bytes, also for the
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

}  // namespace mtp::inline MTP_ABI
