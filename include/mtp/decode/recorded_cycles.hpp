// Cycles of decoding that a backend has recorded.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/decode/slot_step.hpp"

namespace mtp::inline MTP_ABI {

/// A recording for each list of steps; of many, the latest.
template <class Backend>
class recorded_cycles {
 public:
  /// Runs function(), which submits the operations of a cycle of these steps, or replays the
  /// recording of equal ones.
  template <class Function>
  void replay(context<Backend>& context,
              const std::vector<slot_step>& steps,
              const Function& function) {
    constexpr std::size_t kept = 24;  // for one slot: drafts or none, of every kind that there is
    auto found = std::find_if(
        cycles_.begin(), cycles_.end(), [&](const auto& each) { return each->steps == steps; });
    if (found == cycles_.end()) {
      if (cycles_.size() < kept) {
        cycles_.emplace_back();
        found = cycles_.end() - 1;
      } else {
        found = std::min_element(cycles_.begin(), cycles_.end(), [](const auto& a, const auto& b) {
          return a->last_use < b->last_use;
        });
      }
      *found = std::make_unique<cycle>();
      (*found)->steps = steps;
    }
    (*found)->last_use = ++uses_;
    (*found)->recording.replay(context, function);
  }

  /// Forgets them.
  void clear() { cycles_.clear(); }

 private:
  struct cycle {
    std::vector<slot_step> steps;
    typename backend_traits<Backend>::recording recording;
    std::size_t last_use = 0;
  };

  std::vector<std::unique_ptr<cycle>> cycles_;
  std::size_t uses_ = 0;
};

}  // namespace mtp::inline MTP_ABI
