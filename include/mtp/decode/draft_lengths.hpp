// The number of drafts of each step, and the head kept up to date for them.
#pragma once

#include <algorithm>
#include <chrono>
#include <span>

#include "mtp/core/backend.hpp"
#include "mtp/decode/cycle.hpp"
#include "mtp/decode/draft_pacer.hpp"
#include "mtp/decode/generate_options.hpp"
#include "mtp/decode/generation_progress.hpp"
#include "mtp/decode/head_catch_up.hpp"

namespace mtp::inline MTP_ABI {

/// Asks a draft_pacer for the drafts of each step whose sequence wants draft_schedule::adaptive,
/// and brings a head up to date that has not drafted for a while. A depth that has fallen behind
/// further than the head keeps what the trunk gave it drafts no more in that sequence. Does nothing
/// where operations do not end when they return, because nothing is known of times and lengths
/// there.
template <model_config Config, class Backend, scalar S>
class draft_lengths {
 public:
  using cycle_type = decoding_cycle<Config, Backend, S>;          ///< what runs cycles
  using progress_type = generation_progress<Config, Backend, S>;  ///< of one sequence
  /// Whether there is anything to choose. Ranks that compute a model together must draft equally
  /// many tokens, and each has a clock of its own.
  static constexpr bool chooses =
      Config.prediction.drafts() && is_whole<Config> && backend_traits<Backend>::is_host_memory;

  /// For the sequences of `slots` slots.
  explicit draft_lengths(index_t slots) : pacer_(slots, D), heads_(slots) {}

  /// A sequence in a slot whose prompt has been read by the head, all of its `count` tokens.
  void begin(index_t slot, index_t count) {
    if constexpr (chooses) {
      pacer_.begin(slot);
      heads_.begin(slot, count);
    }
  }

  /// Sets the drafts of the steps of the next cycle, and sorts them by falling drafts.
  /// progress_of(slot): of the sequence there.
  template <class ProgressOf>
  void prepare(cycle_type& cycle, std::span<slot_step> steps, const ProgressOf& progress_of) {
    if constexpr (chooses) {
      const auto adaptive = [&](const slot_step& step) {
        return is_adaptive(progress_of(step.slot));
      };
      if (std::any_of(steps.begin(), steps.end(), adaptive)) {
        for (slot_step& step : steps) {
          if (adaptive(step)) {
            step.drafts =
                (std::min)(step.drafts, heads_.usable(step.slot, progress_of(step.slot).count()));
          }
        }
        pacer_.choose(steps, adaptive, [&](const slot_step& step) {
          return row_cost_.seconds() * static_cast<double>(heads_.missing(
                                           step.slot, step.drafts, progress_of(step.slot).count()));
        });
        for (const slot_step& step : steps) {
          if (step.drafts > 0 && adaptive(step)) {
            catch_up(cycle, step, progress_of(step.slot).count());
          }
        }
      }
    }
    std::sort(steps.begin(), steps.end(), [](const slot_step& a, const slot_step& b) {
      return a.drafts != b.drafts ? a.drafts > b.drafts : a.slot < b.slot;
    });
  }

  /// The cycle of these steps has run. What trees cost tells nothing of chains.
  void observe(const cycle_type& cycle, std::span<const slot_step> steps) {
    if constexpr (chooses) {
      index_t rows = 0, drafting = 0;
      for (const slot_step& step : steps) {
        if (step.tree.exists()) {
          return;
        }
        rows += step.rows();
        drafting += step.drafts > 0 ? 1 : 0;
      }
      pacer_.observe(rows,
                     steps.front().drafts,
                     drafting,
                     cycle.seconds(),
                     static_cast<index_t>(steps.size()));
    }
  }
  /// What became of a step of that cycle, before which `count` tokens were confirmed.
  void observe(cycle_type& cycle,
               const slot_step& step,
               index_t accepted,
               index_t count,
               const progress_type& progress) {
    if constexpr (chooses) {
      if (accepted >= 0 && is_adaptive(progress)) {
        pacer_.observe(step, accepted);
        if (step.drafts > 0 && progress.going()) {
          cycle.rewind(step.slot, progress.count());
          heads_.drafted(step.slot, step.drafts, count);
        }
      }
    }
  }

 private:
  using clock = std::chrono::steady_clock;
  static constexpr index_t D = Config.prediction.depth;

  static bool is_adaptive(const progress_type& progress) {
    return progress.options().schedule == draft_schedule::adaptive && progress.is_speculative();
  }

  /// Runs what a draft would have to run more than usual.
  void catch_up(cycle_type& cycle, const slot_step& step, index_t count) {
    const index_t rows = heads_.missing(step.slot, step.drafts, count);
    if (rows == 0) {
      return;
    }
    const auto start = clock::now();
    heads_.bring(step.slot, step.drafts, count, [&](index_t seen) {
      cycle.advance(step.slot, count, seen, step.drafts);
    });
    row_cost_.add(std::chrono::duration<double>(clock::now() - start).count() /
                  static_cast<double>(rows));
  }

  draft_pacer pacer_;
  head_catch_up<Config, Backend> heads_;
  running_cost row_cost_;  // of bringing one depth up to date, for each row
};

}  // namespace mtp::inline MTP_ABI
