// What both sides do before a short time is taken.
#pragma once

#include <chrono>

namespace mtp::bench {

/// Repeats the work for 20 ms, until threads that slept take part in it: a thread that wakes up on
/// the processor of the one that calls it needs some milliseconds to get another.
template <class Work>
void wake_up(const Work& work) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  do {
    work();
  } while (std::chrono::steady_clock::now() < end);
}

}  // namespace mtp::bench
