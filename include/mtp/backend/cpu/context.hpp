// The context of operations on the CPU: threads and workspace memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>

#include "mtp/backend/cpu/abi.hpp"
#include "mtp/backend/cpu/thread_pool.hpp"
#include "mtp/core/allowed_threads.hpp"
#include "mtp/core/arena.hpp"
#include "mtp/core/available_memory.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor_group.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI {

struct cpu;  // the tag of this backend, see backend/cpu.hpp

/// The options of a cpu_context.
struct cpu_options {
  int threads = 0;  ///< 0: as many as the process may use (allowed_threads)
  index_t workspace_bytes = index_t{1} << 26;  ///< scratch memory of operations
};

namespace cpu_detail {

/// Zeroed memory, aligned for the widest vector. Throws mtp::error when memory runs out.
inline void* allocate(std::size_t bytes) {
  detail::check_available("cpu", bytes);
  void* memory = ::operator new (
      bytes, std::align_val_t{static_cast<std::size_t>(arena_alignment)}, std::nothrow);
  check(memory != nullptr, "cpu: out of memory: ", bytes, " bytes requested");
  return std::memset(memory, 0, bytes);
}

inline void deallocate(void* memory, std::size_t) {
  ::operator delete (memory, std::align_val_t{static_cast<std::size_t>(arena_alignment)});
}

/// Elements that one task of an element-wise loop should have: some microseconds of work.
inline constexpr index_t task_elements = 1 << 14;

/// Rows of `width` elements in a task.
constexpr index_t task_rows(index_t width) {
  return task_elements / (width > 0 ? width : 1) + 1;
}

}  // namespace cpu_detail

/// The context of the CPU backend. Results do not depend on the number of threads. One caller at a
/// time may use it; different contexts may be used concurrently.
class cpu_context {
 public:
  /// Starts the threads. Throws mtp::error for a number of threads outside [0, 1024], a negative
  /// workspace, and when threads or memory run out.
  explicit cpu_context(const cpu_options& options = {}) : pool_(resolve(options.threads)) {
    check(options.workspace_bytes >= 0,
          "cpu_context: workspace_bytes must not be negative, got ",
          options.workspace_bytes);
    workspace_ = allocate(options.workspace_bytes);
  }

  ~cpu_context() { release(); }
  cpu_context(const cpu_context&) = delete;
  cpu_context& operator=(const cpu_context&) = delete;

  /// Threads that share an operation, the caller included.
  int threads() const { return pool_.threads(); }

  /// How often so far threads had work to share, modulo 2^32: each time they waited for each other.
  std::uint32_t shared_runs() const { return pool_.runs(); }

  /// Scratch memory of the running operation.
  arena& workspace() { return workspace_; }

  /// Makes the workspace at least `bytes` large. Throws mtp::error while an operation runs and when
  /// memory runs out; the workspace is then unchanged.
  void reserve(index_t bytes) {
    if (bytes > workspace_.capacity()) {
      check(workspace_.used() == 0, "cpu_context::reserve: the workspace is in use");
      const arena larger = allocate(bytes);  // before the old one is freed: this may throw
      release();
      workspace_ = larger;
      lent_ = false;
    }
  }

  /// The ranks that compute each model of this context together; null: it computes alone.
  host_tensor_group* ranks() const { return ranks_; }
  /// Joins ranks, which must outlive the context's operations, for models whose configuration has a
  /// tensor_parallel_size. Other models do not notice.
  void join(host_tensor_group& ranks) { ranks_ = &ranks; }

  /// Calls function(task, thread) for every task in [0, count), shared among the threads.
  template <class Function>
  void parallel(index_t count, Function&& function) {
    pool_.run(count, function);
  }

  /// Calls function(begin, end, thread) over [0, count) in pieces of at most `grain`.
  template <class Function>
  void parallel_ranges(index_t count, index_t grain, Function&& function) {
    const index_t piece = grain > 0 ? grain : 1;
    pool_.run(ceil_div(count, piece), [&](index_t task, int thread) {
      const index_t begin = task * piece;
      function(begin, piece < count - begin ? begin + piece : count, thread);
    });
  }

  /// Calls function(task, context) for every task in [0, count), at the same time as far as there
  /// are threads. Each task has a context of one thread, whose workspace is `bytes` bytes of this
  /// one's, and which knows no ranks. When all have ended, throws what the lowest task threw, if
  /// any did. Throws mtp::error before the first if the workspace has no room for all.
  template <class Function>
  void apart(index_t count, index_t bytes, Function&& function) {
    const arena::scope scope(workspace_);
    const index_t each = round_up(bytes, arena_alignment);
    auto* const memory = workspace_.take<std::byte>(count * each);
    std::mutex guard;
    index_t failed = count;
    std::exception_ptr problem;
    pool_.run(count, [&](index_t task, int) {
      try {
        cpu_context alone(arena(memory + task * each, each));
        function(task, alone);
      } catch (...) {  // a thread of the pool has nobody to throw to
        const std::scoped_lock lock(guard);
        if (task < failed) {
          failed = task;
          problem = std::current_exception();
        }
      }
    });
    if (problem != nullptr) {
      std::rethrow_exception(problem);
    }
  }

 private:
  /// One thread, in memory of another context.
  explicit cpu_context(const arena& lent) : pool_(1), workspace_(lent), lent_(true) {}

  static int resolve(int threads) {
    check(
        threads >= 0 && threads <= 1024, "cpu_context: expected 0 to 1024 threads, got ", threads);
    return threads > 0 ? threads : allowed_threads();
  }

  // Not zeroed, so pages that no operation touches are never allocated.
  static arena allocate(index_t bytes) {
    auto* const memory = static_cast<std::byte*>(
        ::operator new (static_cast<std::size_t>(bytes),
                        std::align_val_t{static_cast<std::size_t>(arena_alignment)},
                        std::nothrow));
    check(
        memory != nullptr, "cpu_context: out of memory: ", bytes, " bytes of workspace requested");
    return {memory, bytes};
  }

  void release() {
    if (!lent_) {
      cpu_detail::deallocate(workspace_.memory(), static_cast<std::size_t>(workspace_.capacity()));
    }
  }

  cpu_detail::thread_pool pool_;
  arena workspace_;
  bool lent_ = false;  // whether the workspace is another context's
  host_tensor_group* ranks_ = nullptr;
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI
