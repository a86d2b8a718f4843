// The latest rows of a stream that grows at its end and is cut at both.
#pragma once

#include <algorithm>

#include "mtp/core/error.hpp"
#include "mtp/core/view.hpp"

namespace mtp {

/// Rows of consecutive positions up to end() in a fixed piece of memory. Appending moves what is
/// kept to the front when the memory's end is reached.
template <class Backend, real S>
class row_window {
 public:
  constexpr row_window() : memory_(nullptr, {0, 0}) {}
  constexpr explicit row_window(matrix_view<S, Backend> memory)
      : memory_(memory) {}  // [capacity, C]

  void reset() {
    first_ = 0;
    count_ = 0;
    start_ = 0;
  }
  index_t end() const { return first_ + count_; }

  /// Forgets rows at and behind `position`.
  void truncate(index_t position) {
    count_ = std::clamp<index_t>(position - first_, 0, count_);
    if (count_ == 0) {
      first_ = position;
      start_ = 0;
    }
  }

  /// Forgets rows before `position`.
  void forget(index_t position) {
    const index_t gone = std::clamp<index_t>(position - first_, 0, count_);
    first_ += gone;
    start_ += gone;
    count_ -= gone;
  }

  /// `rows` new rows at the end, to be written.  [rows, C]
  matrix_view<S, Backend> append(index_t rows) {
    if (start_ + count_ + rows > memory_.extent(0)) {
      check(count_ + rows <= memory_.extent(0),
            "row_window: ",
            count_ + rows,
            " rows in memory for ",
            memory_.extent(0));
      std::copy_n(
          memory_.data() + start_ * memory_.extent(1), count_ * memory_.extent(1), memory_.data());
      start_ = 0;
    }
    count_ += rows;
    return memory_.slice(0, start_ + count_ - rows, rows);
  }

  /// Rows of positions [position, position + rows).  [rows, C]
  matrix_view<S, Backend> rows(index_t position, index_t rows) const {
    check(position >= first_ && position + rows <= end(),
          "row_window: positions [",
          position,
          ", ",
          position + rows,
          ") wanted, [",
          first_,
          ", ",
          end(),
          ") kept");
    return memory_.slice(0, start_ + position - first_, rows);
  }

 private:
  matrix_view<S, Backend> memory_;
  index_t first_ = 0;
  index_t count_ = 0;
  index_t start_ = 0;
};

}  // namespace mtp
