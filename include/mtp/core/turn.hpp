// Refuses calls of an object from its own callback.
#pragma once

#include "mtp/core/error.hpp"

namespace mtp::inline MTP_ABI::detail {

/// Marks an object as busy during its life; a second turn is refused.
class turn {
 public:
  /// Throws mtp::error with `message` if the object is busy.
  turn(bool& at_work, const char* message) : at_work_(at_work) {
    check(!at_work, message);
    at_work = true;
  }
  ~turn() { at_work_ = false; }
  turn(const turn&) = delete;
  turn& operator=(const turn&) = delete;

 private:
  bool& at_work_;
};

}  // namespace mtp::inline MTP_ABI::detail
