// What threads do together: the barrier of a block, and the collectives of a warp. Whoever arrives
// last does the work of all, so that lanes may come in any order and in any groups.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "emulation/block.hpp"
#include "emulation/sites.hpp"

namespace mtp::emulation {

/// For the race detector: whatever one of the threads did comes before whatever any of them does
/// from now on.
MTP_EMULATION_INTERNAL inline void order_threads(const unsigned short* ranks, unsigned count) {
  if constexpr (thread_sanitized) {
    static sync_point meeting;
    device_thread* const threads = running.set->threads;
    for (unsigned i = 0; i < count; ++i) {
      switch_race_thread(threads[ranks[i]].race_thread);
      if (i == 0) {
        release_only(meeting);
      } else {
        release(meeting);
      }
    }
    for (unsigned i = 0; i < count; ++i) {
      switch_race_thread(threads[ranks[i]].race_thread);
      acquire(meeting);
    }
    switch_race_thread(running.current->race_thread);
  }
}

// ---- the barrier of a block ---------------------------------------------------------------------

[[noreturn]] inline void raise_different_barriers(const device_thread& a, const device_thread& b) {
  std::string what = "divergent barriers: threads of one block wait at ";
  what += text_of_place(a.file, a.line);
  what += " and at ";
  what += text_of_place(b.file, b.line);
  raise_fault(std::move(what));
}

/// Lets everyone go on. The caller is the last one to arrive, or has just exited.
MTP_EMULATION_INTERNAL inline void complete_barrier() {
  device_thread* const threads = running.set->threads;
  const unsigned count = running.at_barrier;
  const device_thread& first = threads[running.arrived[0]];
  for (unsigned i = 1; i < count; ++i) {
    const device_thread& other = threads[running.arrived[i]];
    if (other.line != first.line ||
        (other.file != first.file && !detail::same_text(other.file, first.file))) {
      raise_different_barriers(first, other);
    }
  }
  order_threads(running.arrived, count);
  running.last_predicates = running.predicates;
  running.at_barrier = running.predicates = 0;
  const bool last_goes_on = running.current->state == thread_state::at_barrier;
  wake(running.arrived, last_goes_on ? count - 1 : count);
}

/// Waits for all threads of the block that have not exited. Returns how many of them came with a
/// predicate that holds.
MTP_EMULATION_INTERNAL inline unsigned wait_at_barrier(const char* operation,
                                                       bool predicate,
                                                       const char* file,
                                                       int line) {
  device_thread& self = this_thread(operation);
  if (detail::pass_site(site_kind::block_barrier, file, line)) {
    return predicate;
  }
  self.state = thread_state::at_barrier;
  self.operation = operation;
  self.file = file;
  self.line = line;
  running.predicates += predicate;
  running.arrived[running.at_barrier++] = static_cast<unsigned short>(self.rank);
  if (running.at_barrier == running.alive) {
    complete_barrier();
    self.state = thread_state::ready;
    perhaps_suspend();
  } else {
    suspend();
  }
  return running.last_predicates;
}

// ---- collectives of a warp ----------------------------------------------------------------------

/// What a lane asks for and gets. It lies on the lane's stack while the lane waits.
struct lane_request {
  using executor = void (*)(lane_request* const* lanes, unsigned participants);

  executor execute;  ///< for all lanes at once; `participants` has a bit for each of them
  unsigned detail;   ///< what else lanes must agree on
  unsigned mask;
  bool orders_memory = false;
  unsigned source = 0;  ///< shuffles: the lane to read from
  std::uint64_t value = 0, result = 0;
  const void* inputs[2] = {};  ///< matrices: fragments or rows
  void* output = nullptr;
};

[[noreturn]] inline void raise_lanes_disagree(const char* what, unsigned lane) {
  raise_fault("lanes of a warp disagree on " + std::string(what) + ": lane " +
              std::to_string(running.current->rank % lanes_per_warp) + " calls " +
              running.current->operation + ", while lane " + std::to_string(lane) +
              " waits for it elsewhere");
}

MTP_EMULATION_INTERNAL inline bool agree(const lane_request& a, const lane_request& b) {
  return a.execute == b.execute && a.detail == b.detail;
}

/// Executes for the lanes of `mask` that have not exited, if all of them wait with this mask.
MTP_EMULATION_INTERNAL inline bool complete_collective(unsigned warp_index, unsigned mask) {
  device_warp& warp = running.warps[warp_index];
  const unsigned participants = mask & warp.alive;
  if (participants == 0 || (warp.waiting & participants) != participants) {
    return false;
  }
  const unsigned first = static_cast<unsigned>(__builtin_ctz(participants));
  unsigned short others[lanes_per_warp], all[lanes_per_warp];
  unsigned other_count = 0, count = 0;
  for (unsigned left = participants; left != 0; left &= left - 1) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(left));
    if (warp.requests[lane]->mask != mask) {
      return false;  // it waits for another group and will come later
    }
    if (!agree(*warp.requests[lane], *warp.requests[first])) {
      raise_lanes_disagree("what to do", lane);
    }
    const auto rank = static_cast<unsigned short>(warp_index * lanes_per_warp + lane);
    all[count++] = rank;
    if (&running.set->threads[rank] != running.current) {
      others[other_count++] = rank;
    }
  }
  warp.requests[first]->execute(warp.requests, participants);
  if (warp.requests[first]->orders_memory) {
    order_threads(all, count);
  }
  warp.waiting &= ~participants;
  wake(others, other_count);
  return true;
}

[[noreturn]] inline void raise_not_in_mask(const char* operation, unsigned lane) {
  raise_fault(std::string(operation) + ": lane " + std::to_string(lane) +
              " is not in its own mask");
}

/// Waits for the lanes of the request's mask, with which it is executed.
MTP_EMULATION_INTERNAL inline void join_collective(const char* operation,
                                                   lane_request& request,
                                                   const char* file,
                                                   int line) {
  device_thread& self = this_thread(operation);
  const unsigned lane = self.rank % lanes_per_warp, warp_index = self.rank / lanes_per_warp;
  device_warp& warp = running.warps[warp_index];
  self.operation = operation;
  self.file = file;
  self.line = line;
  self.mask = request.mask;
  if ((request.mask >> lane & 1) == 0) {
    raise_not_in_mask(operation, lane);
  }
  if (const unsigned early = warp.waiting & request.mask; early != 0) {
    // Whoever waits for this lane in another way will never be joined by it.
    const auto other = static_cast<unsigned>(__builtin_ctz(early));
    const lane_request& waiting = *warp.requests[other];
    if ((waiting.mask >> lane & 1) != 0) {
      if (waiting.mask != request.mask) {
        raise_lanes_disagree("the mask", other);
      }
      if (!agree(waiting, request)) {
        raise_lanes_disagree("what to do", other);
      }
    }
  }
  warp.requests[lane] = &request;
  warp.waiting |= 1u << lane;
  self.state = thread_state::in_warp;
  if (complete_collective(warp_index, request.mask)) {
    self.state = thread_state::ready;
    perhaps_suspend();
  } else {
    suspend();
  }
}

/// After a thread has exited: others may have waited for it only.
MTP_EMULATION_INTERNAL inline void complete_without(unsigned warp_index) {
  device_warp& warp = running.warps[warp_index];
  for (unsigned left = warp.waiting; left != 0; left &= left - 1) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(left));
    if ((warp.waiting >> lane & 1) != 0) {
      complete_collective(warp_index, warp.requests[lane]->mask);
    }
  }
  if (running.alive != 0 && running.at_barrier == running.alive) {
    complete_barrier();
  }
}

// ---- what the collectives do --------------------------------------------------------------------

/// Nothing: the lanes have met.
MTP_EMULATION_INTERNAL inline void execute_meeting(lane_request* const*, unsigned) {}

MTP_EMULATION_INTERNAL inline void execute_shuffle(lane_request* const* lanes,
                                                   unsigned participants) {
  for (unsigned left = participants; left != 0; left &= left - 1) {
    lane_request& lane = *lanes[__builtin_ctz(left)];
    // A lane that takes no part has nothing to give: NaN.
    lane.result = (participants >> lane.source & 1) != 0 ? lanes[lane.source]->value : ~0ull;
  }
}

MTP_EMULATION_INTERNAL inline void execute_ballot(lane_request* const* lanes,
                                                  unsigned participants) {
  std::uint64_t ballot = 0;
  for (unsigned left = participants; left != 0; left &= left - 1) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(left));
    ballot |= static_cast<std::uint64_t>(lanes[lane]->value != 0) << lane;
  }
  for (unsigned left = participants; left != 0; left &= left - 1) {
    lane_request& lane = *lanes[__builtin_ctz(left)];
    lane.result = ballot;
    lane.value = participants;
  }
}

}  // namespace mtp::emulation
