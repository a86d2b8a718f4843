// Runs a grid: block after block, each on the same contexts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <numeric>
#include <string>
#include <utility>

#include "emulation/async_copies.hpp"
#include "emulation/block.hpp"
#include "emulation/collectives.hpp"
#include "emulation/early.hpp"
#include "emulation/guarded_memory.hpp"

namespace mtp::emulation {

// ---- threads ------------------------------------------------------------------------------------

inline void run_body() {
  std::string what = "of unknown type";
  try {
    running.body(running.arguments);
    return;
  } catch (const std::exception& error) {
    what = error.what();
  } catch (...) {
  }
  raise_fault("an exception left the kernel: " + std::move(what));
}

MTP_EMULATION_INTERNAL inline void stop_ignoring(device_thread& thread) {
  if (thread.ignored) {
    thread.ignored = false;
    end_ignoring();
  }
}

/// Completes the switch to a thread that begins. A function of its own, because its locals would
/// stay on the fake stack for ever.
MTP_EMULATION_INTERNAL inline void arrive() {
#if MTP_EMULATION_ASAN
  const void* from_stack = nullptr;
  std::size_t from_bytes = 0;
  __sanitizer_finish_switch_fiber(running.current->fake_stack, &from_stack, &from_bytes);
  if (running.host_stack == nullptr) {  // the first thread of all comes from the host
    running.host_stack = from_stack;
    running.host_stack_bytes = from_bytes;
  }
#endif
}

/// Everything a thread does, in a context of its own.
[[noreturn]] MTP_EMULATION_INTERNAL inline void run_thread() {
  arrive();
  device_thread& self = *running.current;
  self.started = true;
  acquire(running.set->order);
  limit_races(self);
  run_body();
  check_no_copies_left();
  check_waited(self);
  stop_ignoring(self);
  release(running.set->order);
  self.state = thread_state::exited;
  --running.alive;
  running.warps[self.rank / lanes_per_warp].alive &= ~(1u << self.rank % lanes_per_warp);
  complete_without(self.rank / lanes_per_warp);
  if (running.alive == 0) {
    return_to_host();
  }
  suspend();
  __builtin_unreachable();
}

MTP_EMULATION_INTERNAL inline void prepare_thread(unsigned rank) {
  device_thread& thread = running.set->threads[rank];
  if (thread.stack == nullptr) {
    thread.stack = allocate_stack();
  }
  if (thread.race_thread == nullptr) {
    thread.race_thread = create_race_thread();
  }
#if MTP_EMULATION_ASAN
  // The first frames end in a switch and leave their zones behind.
  __asan_unpoison_memory_region(thread.stack + stack_bytes - 4 * page_bytes, 4 * page_bytes);
#endif
  // Tops of stacks at different distances from a page, or they would all share few lines of a
  // cache.
  prepare(thread.registers, thread.stack, stack_bytes - rank % 32 * 128, run_thread);
  thread.rank = rank;
  thread.index = {rank % block_size.x,
                  rank / block_size.x % block_size.y,
                  rank / (block_size.x * block_size.y)};
  thread.started = thread.fenced = thread.waited = false;
  thread.seen_count = 0;
  thread.copies.begin = thread.copies.end = thread.copies.commits = 0;
}

// ---- sets of threads ----------------------------------------------------------------------------

/// One is enough, but a race detector must not take the blocks of a launch for one sequence of
/// events: blocks that follow each other use different sets. It takes half a millisecond and a
/// megabyte to make a thread known to it, so only small blocks get many sets.
inline constexpr unsigned race_threads = 256, max_sets = 8;

inline unsigned number_of_sets(std::uint64_t blocks, unsigned threads) {
  unsigned sets = 1;
  if constexpr (thread_sanitized) {
    sets = std::clamp(race_threads / threads, 2u, max_sets);
  }
  return static_cast<unsigned>(std::min<std::uint64_t>(sets, blocks));
}

inline thread_set& set_of_threads(unsigned number) {
  static thread_set sets[max_sets];
  thread_set& set = sets[number];
  if (set.threads == nullptr) {
    set.threads = static_cast<device_thread*>(allocate_pages(max_threads * sizeof(device_thread)));
  }
  return set;
}

/// After a fault: threads that have started and not exited will never go on.
MTP_EMULATION_INTERNAL inline void abandon_threads() {
  for (unsigned rank = 0; rank < running.threads; ++rank) {
    device_thread& thread = running.set->threads[rank];
    if (!thread.started || thread.state == thread_state::exited) {
      continue;
    }
    if constexpr (address_sanitized) {
      running.draining = true;  // lets it give its fake stack back
      switch_from_host(thread);
      running.draining = false;
      thread.fake_stack = nullptr;
#if MTP_EMULATION_ASAN
      __asan_unpoison_memory_region(thread.stack, stack_bytes);
#endif
    }
    if constexpr (thread_sanitized) {
      switch_race_thread(thread.race_thread);
      stop_ignoring(thread);
      release(running.set->order);
      switch_race_thread(running.host_race_thread);
      destroy_race_thread(thread.race_thread);
      thread.race_thread = nullptr;
    }
  }
}

// ---- blocks -------------------------------------------------------------------------------------

/// What a kernel is launched with.
struct grid_launch {
  dim3 grid, block;
  std::size_t shared_bytes;
  void (*body)(const void*);  ///< called by every thread
  const void* arguments;
};

MTP_EMULATION_INTERNAL inline void begin_launch(const grid_launch& launch, const options& how) {
  grid_size = launch.grid;
  block_size = launch.block;
  running.body = launch.body;
  running.arguments = launch.arguments;
  running.shared_bytes = launch.shared_bytes;
  running.deferred_copies = how.copies == copy_mode::deferred;
  running.max_races = race_count() + how.reported_races;
  running.host_race_thread = current_race_thread();
  running.host_stack = nullptr;
  executes_kernel = true;
}

/// Returns false if the block was abandoned.
MTP_EMULATION_INTERNAL inline bool run_block(std::uint64_t block,
                                             thread_set& set,
                                             unsigned char* shared,
                                             std::uint64_t seed) {
  const unsigned threads = block_size.x * block_size.y * block_size.z;
  block_index.x = static_cast<unsigned>(block % grid_size.x);
  block_index.y = static_cast<unsigned>(block / grid_size.x % grid_size.y);
  block_index.z = static_cast<unsigned>(block / grid_size.x / grid_size.y);
  running.set = &set;
  running.shared = shared;
  running.random = seed == 0 ? 0 : (seed * 0x9e3779b97f4a7c15u + 2 * block) | 1;
  running.threads = running.alive = threads;
  running.at_barrier = running.predicates = 0;
  running.first_ready = running.ready_count = 0;
  for (device_warp& warp : running.warps) {
    warp.alive = warp.waiting = 0;
  }
  unsigned short ranks[max_threads];
  for (unsigned rank = 0; rank < threads; ++rank) {
    prepare_thread(rank);
    ranks[rank] = static_cast<unsigned short>(rank);
    running.warps[rank / lanes_per_warp].alive |= 1u << rank % lanes_per_warp;
  }
  wake(ranks, threads);
  switch_from_host(running.set->threads[take_ready()]);
  if (running.failure != nullptr) {
    abandon_threads();
  }
  return running.failure == nullptr;
}

/// The i-th block to run: in order, or by the seed in one of many orders.
class block_order {
 public:
  block_order(std::uint64_t count, std::uint64_t seed) : count_(count) {
    if (seed != 0) {
      running.random = seed;
      start_ = next_random() % count;
      do {
        step_ = next_random() % count + 1;
      } while (std::gcd(step_, count) != 1);
    }
  }
  std::uint64_t operator[](std::uint64_t i) const {
    __extension__ typedef unsigned __int128 wide;
    return static_cast<std::uint64_t>((start_ + static_cast<wide>(i) * step_) % count_);
  }

 private:
  std::uint64_t count_, start_ = 0, step_ = 1;
};

/// What kernels are promised of their dynamic shared memory, see device.cuh.
inline constexpr std::size_t shared_alignment = 128;

/// Throws fault if a thread breaks a rule.
inline void run_grid(const grid_launch& launch) {
  const options& how = settings();
  const std::uint64_t blocks = std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  const unsigned sets = number_of_sets(blocks, launch.block.x * launch.block.y * launch.block.z);
  std::deque<guarded_memory> memories;
  for (unsigned i = 0; i < sets; ++i) {
    memories.emplace_back(launch.shared_bytes, shared_alignment);
    release_only(set_of_threads(i).order);
  }
  begin_launch(launch, how);
  bool completed = true, intact = true;
  const block_order order(blocks, how.seed);
  for (std::uint64_t i = 0; i < blocks && completed && intact; ++i) {
    const auto set = static_cast<unsigned>(i % sets);
    memories[set].forget(how.poison);
    show_past();
    completed = run_block(order[i], set_of_threads(set), memories[set].data(), how.seed);
    intact = memories[set].intact();
  }
  for (unsigned i = 0; i < sets; ++i) {
    acquire(set_of_threads(i).order);
  }
  executes_kernel = false;
  if (!completed) {
    const std::unique_ptr<const std::string> failure(std::exchange(running.failure, nullptr));
    throw fault(*failure);
  }
  if (!intact) {
    throw fault("block " + text_of(block_index) + " wrote beside its " +
                std::to_string(launch.shared_bytes) + " bytes of shared memory");
  }
}

}  // namespace mtp::emulation
