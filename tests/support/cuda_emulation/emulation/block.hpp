// The block that is being executed: one context for each of its threads on one thread of the host,
// and who of them runs next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "emulation/context_switch.hpp"
#include "emulation/fault.hpp"
#include "emulation/options.hpp"
#include "emulation/sanitizers.hpp"
#include "emulation/vector_types.hpp"

namespace mtp::emulation {

inline constexpr unsigned max_threads = 1024, lanes_per_warp = 32, max_seen = 8;

enum class thread_state : unsigned char { ready, at_barrier, in_warp, exited };

struct lane_request;  // collectives.hpp
struct pending_copy;  // async_copies.hpp

/// Copies that a thread started and has not waited for, oldest first.
struct copy_queue {
  pending_copy* entries;
  unsigned capacity, begin, end;
  unsigned commits;  // groups closed so far
};

/// One thread of the device. Its stack and its identity for the race detector outlive the block.
struct device_thread {
  context registers;
  char* stack;
  void* fake_stack;   // AddressSanitizer's, while the thread does not run; the next block's too
  void* race_thread;  // ThreadSanitizer's
  uint3 index;
  unsigned rank;  // in the block: x first, then y, then z
  thread_state state;
  bool started;
  bool waited;            // has met a wait_for_previous_kernels
  bool fenced;            // has met a __threadfence
  bool ignored;           // by the race detector, see options
  const char* operation;  // what it waits in, where, and with which lanes
  const char* file;
  int line;
  unsigned mask;
  copy_queue copies;
  void* seen[max_seen];  // atomics met since the last __threadfence, as a ring
  unsigned seen_count;
};

struct device_warp {
  unsigned alive, waiting;  // a bit for each lane
  lane_request* requests[lanes_per_warp];
};

/// The threads of a block, to be used by one block after the other.
struct thread_set {
  device_thread* threads;  // [max_threads]
  sync_point order;        // from the host to the threads, and back at their end
};

struct block_state {
  device_thread* current;  // none: the host runs
  thread_set* set;
  unsigned threads, alive;
  unsigned at_barrier, predicates, last_predicates;
  unsigned short arrived[max_threads];  // ranks at the barrier
  device_warp warps[max_threads / lanes_per_warp];

  unsigned short ready[max_threads];  // a ring of ranks
  unsigned first_ready, ready_count;
  std::uint64_t random;  // 0: everything in order

  unsigned char* shared;
  std::size_t shared_bytes;
  bool deferred_copies;
  long max_races;  // in the process, before the rest is ignored

  void (*body)(const void*);
  const void* arguments;

  context host;
  void* host_race_thread;
  const void* host_stack;
  std::size_t host_stack_bytes;
  std::string* failure;
  bool draining;  // abandoned threads only leave
};
inline block_state running;

/// Whether this thread of the host executes a kernel now.
inline thread_local bool executes_kernel = false;

inline uint3 thread_index, block_index;
inline dim3 block_size, grid_size;

// ---- order --------------------------------------------------------------------------------------

/// Steele et al. 2014, "Fast splittable pseudorandom number generators": one step of SplitMix64.
MTP_EMULATION_INTERNAL inline std::uint64_t next_random() {
  std::uint64_t z = (running.random += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

MTP_EMULATION_INTERNAL inline void make_ready(unsigned rank, bool next_to_run) {
  running.set->threads[rank].state = thread_state::ready;
  if (next_to_run) {
    running.first_ready = (running.first_ready - 1) % max_threads;
  }
  const unsigned place =
      next_to_run ? running.first_ready : (running.first_ready + running.ready_count) % max_threads;
  running.ready[place] = static_cast<unsigned short>(rank);
  ++running.ready_count;
}

/// The rank of the thread that runs next. There must be one.
MTP_EMULATION_INTERNAL inline unsigned take_ready() {
  const unsigned rank = running.ready[running.first_ready];
  running.first_ready = (running.first_ready + 1) % max_threads;
  --running.ready_count;
  return rank;
}

/// Lets threads go on: in order behind all others, or by the seed in any order, before or behind.
MTP_EMULATION_INTERNAL inline void wake(unsigned short* ranks, unsigned count) {
  bool next_to_run = false;
  if (running.random != 0) {
    for (unsigned i = count; i > 1; --i) {
      const auto j = static_cast<unsigned>(next_random() % i);
      const unsigned short rank = ranks[j];
      ranks[j] = ranks[i - 1];
      ranks[i - 1] = rank;
    }
    next_to_run = next_random() % 2 == 0;
  }
  for (unsigned i = 0; i < count; ++i) {
    make_ready(ranks[i], next_to_run);
  }
}

// ---- switches -----------------------------------------------------------------------------------

/// Leaves the device. Comes back only to leave again, see abandon_threads.
[[noreturn]] MTP_EMULATION_INTERNAL inline void return_to_host() {
  device_thread& self = *running.current;
  while (true) {
    running.current = nullptr;
    switch_race_thread(running.host_race_thread);
#if MTP_EMULATION_ASAN
    __sanitizer_start_switch_fiber(running.draining ? nullptr : &self.fake_stack,
                                   running.host_stack,
                                   running.host_stack_bytes);
#endif
    swap_contexts(self.registers, running.host);
#if MTP_EMULATION_ASAN
    __sanitizer_finish_switch_fiber(self.fake_stack, nullptr, nullptr);
#endif
  }
}

MTP_EMULATION_INTERNAL inline void limit_races(device_thread& self) {
  if (thread_sanitized && !self.ignored && race_count() >= running.max_races) {
    self.ignored = true;
    begin_ignoring();
  }
}

MTP_EMULATION_INTERNAL inline void switch_to(device_thread& next) {
  device_thread& self = *running.current;
  if (&next == &self) {
    return;
  }
  running.current = &next;
  thread_index = next.index;
  switch_race_thread(next.race_thread);
#if MTP_EMULATION_ASAN
  __sanitizer_start_switch_fiber(&self.fake_stack, next.stack, stack_bytes);
#endif
  swap_contexts(self.registers, next.registers);
#if MTP_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(self.fake_stack, nullptr, nullptr);
  if (running.draining) {
    return_to_host();
  }
#endif
  limit_races(self);
}

/// From the host to a thread, until a thread returns.
MTP_EMULATION_INTERNAL inline void switch_from_host(device_thread& next) {
  running.current = &next;
  thread_index = next.index;
  switch_race_thread(next.race_thread);
#if MTP_EMULATION_ASAN
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, next.stack, stack_bytes);
#endif
  swap_contexts(running.host, next.registers);
#if MTP_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

// ---- faults -------------------------------------------------------------------------------------

inline std::string text_of(uint3 index) {
  return '(' + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
         std::to_string(index.z) + ')';
}

inline std::string text_of_place(const char* file, int line) {
  return std::string(file) + ':' + std::to_string(line);
}

inline std::string text_of_state(const device_thread& thread) {
  if (thread.state == thread_state::exited) {
    return "exited";
  }
  if (thread.state == thread_state::ready) {
    return &thread == running.current ? "running" : thread.started ? "ready" : "not started";
  }
  std::string text = std::string("waiting in ") + thread.operation;
  if (thread.state == thread_state::in_warp) {
    char mask[32];
    std::snprintf(mask, sizeof mask, " with lanes 0x%08x", thread.mask);
    text += mask;
  }
  if (thread.file != nullptr) {
    text += " at " + text_of_place(thread.file, thread.line);
  }
  return text;
}

/// A line for each run of threads in the same state.
inline std::string text_of_threads() {
  std::string text = "\nblock " + text_of(block_index) + " of " + text_of(grid_size) +
                     " blocks of " + text_of(block_size) + " threads:";
  for (unsigned begin = 0, end = 0; begin < running.threads; begin = end) {
    const std::string state = text_of_state(running.set->threads[begin]);
    end = begin + 1;
    while (end < running.threads && text_of_state(running.set->threads[end]) == state) {
      ++end;
    }
    text += "\n  " + std::to_string(begin);
    if (end - begin > 1) {
      text += '-' + std::to_string(end - 1);
    }
    text += ": " + state;
  }
  return text;
}

/// Ends the launch: the host throws fault. On the host, throws at once. Nothing on the stack of the
/// caller is destroyed, so it should own no memory.
[[noreturn]] inline void raise_fault(std::string what) {
  if (running.current == nullptr) {
    throw fault(what);
  }
  what += text_of_threads();
  running.failure = new std::string(std::move(what));
  release(running.set->order);
  return_to_host();
}

[[noreturn]] inline void raise_call_by_host(const char* operation) {
  raise_fault(std::string(operation) + ": called by the host, outside of any kernel");
}

/// The thread that runs. `operation` is what it calls.
MTP_EMULATION_INTERNAL inline device_thread& this_thread(const char* operation) {
  if (running.current == nullptr) {
    raise_call_by_host(operation);
  }
  return *running.current;
}

MTP_EMULATION_INTERNAL inline unsigned char* shared_of_block() {
  this_thread("dynamic_shared");
  return running.shared;
}

/// Lets others run until this thread is made ready again.
MTP_EMULATION_INTERNAL inline void suspend() {
  if (running.ready_count == 0) {
    raise_fault("deadlock: every thread waits for another one");
  }
  switch_to(running.set->threads[take_ready()]);
}

/// Whoever arrives last need not wait; by the seed, it lets others go first all the same.
MTP_EMULATION_INTERNAL inline void perhaps_suspend() {
  if (running.random != 0 && next_random() % 2 == 0) {
    make_ready(running.current->rank, next_random() % 2 == 0);
    suspend();
  }
}

}  // namespace mtp::emulation
