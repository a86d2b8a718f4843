// Finds out whether tests would notice a missing barrier.
#pragma once

#include <vector>

#include "emulation/control.hpp"
#include "emulation/fault.hpp"
#include "emulation/sanitizers.hpp"
#include "emulation/sites.hpp"

namespace mtp::emulation {

/// The places where nobody would miss waiting: `run()` launches kernels and returns whether their
/// results are right, and with the place turned off they are, without a fault and without a race.
/// Races are seen under ThreadSanitizer only.
template <class Run>
std::vector<site> unneeded_sites(const Run& run) {
  forget_sites();
  run();
  std::vector<site> unneeded;
  for (const site& candidate : sites()) {
    const disabled_site disabled(candidate);
    const long races = race_count();
    bool right = false;
    try {
      right = run();
    } catch (const fault&) {
    }
    if (right && race_count() == races) {
      unneeded.push_back(candidate);
    }
  }
  return unneeded;
}

}  // namespace mtp::emulation
