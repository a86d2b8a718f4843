// Kernels that begin before the one in front of them has ended.
//
// Kernels are run one after the other, so nothing would show that one reads too early. Where
// options ask for it, a kernel that is launched early therefore finds memory as it was before the
// last kernel in front of it that began in order, because all from that one on may still run, until
// its block has waited; then it finds what they wrote. All threads of such a kernel wait, and none
// writes before.
#pragma once

#include <optional>

#include "emulation/block.hpp"
#include "emulation/collectives.hpp"
#include "emulation/device_heap.hpp"
#include "emulation/options.hpp"

namespace mtp::emulation {

struct early_state {
  bool early = false;                         // the kernel that runs was launched so
  std::optional<device_heap::image> past;     // before the last kernel that began in order
  std::optional<device_heap::image> present;  // while a block sees the past
};

inline early_state& early_kernels() {
  static early_state state;
  return state;
}

/// The host has waited, or the stream has something else to do than kernels.
inline void end_overlap() {
  early_kernels().past.reset();
}

/// A block begins.
inline void show_past() {
  early_state& state = early_kernels();
  if (state.early && state.past) {
    state.present = heap().remember();
    heap().restore(*state.past);
  }
}

/// False if memory changed in the past.
inline bool show_present() {
  early_state& state = early_kernels();
  if (!state.present) {
    return true;
  }
  const bool unchanged = heap().equals(*state.past);
  heap().restore(*state.present);
  state.present.reset();
  return unchanged;
}

/// A kernel runs as long as this lives.
class overlapping_kernel {
 public:
  explicit overlapping_kernel(bool early) {
    early_state& state = early_kernels();
    state.early = early;
    if (!early) {
      state.past.reset();
      if (settings().early_kernels_see_the_past && !thread_sanitized) {
        state.past = heap().remember();
      }
    }
  }
  ~overlapping_kernel() {
    static_cast<void>(show_present());  // after a fault
    early_kernels().early = false;
  }
  overlapping_kernel(const overlapping_kernel&) = delete;
  overlapping_kernel& operator=(const overlapping_kernel&) = delete;
};

inline void wait_for_previous_kernels(const char* file, int line) {
  device_thread& self = this_thread("wait_for_previous_kernels");
  if (early_kernels().early && !self.waited) {
    self.waited = true;
    if (early_kernels().present) {
      wait_at_barrier("wait_for_previous_kernels", false, file, line);
      if (!show_present()) {
        raise_fault("a kernel that was launched early wrote before it waited");
      }
    }
  }
}

inline void allow_next_kernel() {
  static_cast<void>(this_thread("allow_next_kernel"));
}

inline void check_waited(const device_thread& self) {
  if (early_kernels().early && !self.waited) {
    raise_fault("a kernel that was launched early ended without waiting");
  }
}

}  // namespace mtp::emulation
