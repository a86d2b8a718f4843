// Recordings of decoding cycles.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <vector>

#include "mtp/core/backend.hpp"

namespace mtp::inline MTP_ABI {

/// What a backend has recorded of cycles, by their steps: the latest of them are kept. For backends
/// that record nothing it keeps nothing.
template <class Backend, class Step>
class cycle_recordings {
 public:
  /// Runs `function`, which submits a cycle of these steps, or replays what was recorded of it.
  template <class Function>
  void replay(context<Backend>& context, const std::vector<Step>& steps, const Function& function) {
    if constexpr (std::is_empty_v<recording_type>) {
      recording_type{}.replay(context, function);
    } else {
      auto found = std::find_if(
          kept_.begin(), kept_.end(), [&](const auto& each) { return each->steps == steps; });
      if (found == kept_.end()) {
        found = place_of_new();
        *found = std::make_unique<recorded>();
        (*found)->steps = steps;
      }
      (*found)->last_use = ++uses_;
      (*found)->recording.replay(context, function);
    }
  }

  /// Forgets all. None may be running.
  void clear() { kept_.clear(); }

 private:
  using recording_type = typename backend_traits<Backend>::recording;
  static constexpr std::size_t most = 24;  // for one slot: drafts or none, of every kind there is

  struct recorded {
    std::vector<Step> steps;
    recording_type recording;
    std::size_t last_use = 0;
  };

  auto place_of_new() {
    if (kept_.size() < most) {
      kept_.emplace_back();
      return kept_.end() - 1;
    }
    return std::min_element(kept_.begin(), kept_.end(), [](const auto& a, const auto& b) {
      return a->last_use < b->last_use;
    });
  }

  std::vector<std::unique_ptr<recorded>> kept_;
  std::size_t uses_ = 0;
};

}  // namespace mtp::inline MTP_ABI
