// Calls of an object from a callback of its own.
#pragma once

#include "mtp/core/error.hpp"

namespace mtp::inline MTP_ABI::detail {

/// While it lives, the object that the flag belongs to is at work, and another turn is refused.
class turn {
 public:
  /// Throws mtp::error with `message` if the object is at work.
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
