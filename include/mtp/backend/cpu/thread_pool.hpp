// Threads that share the tasks of one loop at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

#include "mtp/backend/cpu/abi.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
#endif

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Tells the processor that this thread is spinning.
inline void spin_pause() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#endif
}

/// A pool of threads. run() assigns task numbers one by one to free threads, the caller included. A
/// worker that the system has suspended delays nobody: the others take its tasks. So the result
/// must never depend on which thread runs a task.
///
/// After a run, workers spin for a short time (the next run of a training or decoding step follows
/// within microseconds), then sleep. No run allocates.
class thread_pool {
 public:
  /// Starts all threads but one, which is the caller. Throws mtp::error if the system provides
  /// fewer; those it provided have then ended.
  explicit thread_pool(int threads) {
    check(threads >= 1, "thread_pool: expected at least 1 thread, got ", threads);
    workers_.reserve(static_cast<std::size_t>(threads - 1));
    try {
      for (int i = 1; i < threads; ++i) {
        workers_.emplace_back([this, i] { work(i); });
      }
    } catch (const std::system_error& problem) {
      stop();
      fail("thread_pool: the system gave ",
           this->threads(),
           " of ",
           threads,
           " threads (",
           problem.what(),
           ")");
    } catch (...) {  // a thread that is not joined would end the program
      stop();
      throw;
    }
  }

  ~thread_pool() { stop(); }

  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// How many runs the threads have shared so far, modulo 2^32.
  std::uint32_t runs() const {
    return static_cast<std::uint32_t>(claim_.load(std::memory_order_relaxed) >> 32);
  }

  /// Calls function(task, thread) for every task in [0, count), thread in [0, threads()). Returns
  /// when all have ended. The function must not throw. One caller at a time.
  template <class Function>
  void run(index_t count, Function&& function) {
    static_assert(std::is_invocable_v<Function&, index_t, int>,
                  "thread_pool::run: the function must take a task and a thread number");
    const detail::default_environment
        scope;  // as on the workers: the thread of a task must not matter
    if (count <= 1 || workers_.empty()) {
      for (index_t task = 0; task < count; ++task) {
        function(task, 0);
      }
      return;
    }
    const auto call = [](const void* object, index_t task, int thread) {
      (*static_cast<std::remove_reference_t<Function>*>(const_cast<void*>(object)))(task, thread);
    };
    start(count, std::addressof(function), call);
    while (run_one(0)) {
    }
    for (int spins = 0; done_.load(std::memory_order_acquire) != count;) {
      wait_a_little(spins);
    }
  }

 private:
  using call_type = void (*)(const void*, index_t, int);

  // The claim word has the number of the run in its upper half and the next free task in the lower
  // half. A claim is a compare-and-swap: a worker that looked at an older run can never take a task
  // of a newer one, and it uses what it read of the job only if the word is unchanged.
  static constexpr std::uint64_t closed = 0xffffffffu;

  void stop() {
    stopping_.store(true, std::memory_order_relaxed);
    publish();
    for (auto& worker : workers_) {
      worker.join();
    }
  }

  void start(index_t count, const void* object, call_type call) {
    check(count < static_cast<index_t>(closed), "thread_pool::run: too many tasks: ", count);
    const std::uint64_t run = ((claim_.load(std::memory_order_relaxed) >> 32) + 1) << 32;
    claim_.store(run | closed, std::memory_order_seq_cst);
    object_.store(object, std::memory_order_relaxed);
    call_.store(call, std::memory_order_relaxed);
    count_.store(count, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    claim_.store(run, std::memory_order_seq_cst);
    publish();
  }

  void publish() {
    published_.fetch_add(1, std::memory_order_seq_cst);
    published_.notify_all();
  }

  bool run_one(int thread) {
    std::uint64_t word = claim_.load(std::memory_order_acquire);
    for (;;) {
      const auto task = static_cast<index_t>(word & closed);
      const index_t count = count_.load(std::memory_order_acquire);
      const void* object = object_.load(std::memory_order_acquire);
      const call_type call = call_.load(std::memory_order_acquire);
      if (task >= count) {
        return false;
      }
      if (claim_.compare_exchange_weak(
              word, word + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
        call(object, task, thread);
        done_.fetch_add(1, std::memory_order_release);
        return true;
      }
    }
  }

  static void wait_a_little(int& spins) {
    if (++spins < spins_before_yield) {
      spin_pause();
    } else {
      std::this_thread::yield();
    }
  }

  void work(int thread) {
    const detail::default_environment scope;  // it inherited that of the thread that made the pool
    for (;;) {
      const std::uint32_t seen = published_.load(std::memory_order_acquire);
      if (stopping_.load(std::memory_order_relaxed)) {
        return;
      }
      while (run_one(thread)) {
      }
      for (int spins = 0; spins < spins_before_sleep; ++spins) {
        if (published_.load(std::memory_order_acquire) != seen) {
          break;
        }
        spin_pause();
      }
      published_.wait(seen, std::memory_order_acquire);
    }
  }

  // A pause takes some tens of cycles on current x86: about 50 us until a yield or sleep.
  static constexpr int spins_before_yield = 4000;
  static constexpr int spins_before_sleep = 4000;

  alignas(64) std::atomic<std::uint64_t> claim_{closed};
  alignas(64) std::atomic<index_t> done_{0};
  alignas(64) std::atomic<std::uint32_t> published_{0};
  std::atomic<const void*> object_{nullptr};
  std::atomic<call_type> call_{nullptr};
  std::atomic<index_t> count_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
