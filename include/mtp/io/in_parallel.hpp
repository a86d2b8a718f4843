// Threads for the reading of files, which take long enough to be started each time.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "mtp/core/allowed_threads.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::io {

/// Calls function(0), ..., function(count - 1), shared among as many threads as the machine has,
/// the caller included; fewer if the system gives fewer. After an exception no further call begins,
/// and when all have ended, the first exception is thrown again. The threads compute in the default
/// floating-point environment.
template <class Function>
void in_parallel(index_t count, const Function& function) {
  std::atomic<index_t> next{0};
  std::exception_ptr problem;
  std::mutex problem_guard;
  const auto work = [&] {
    const mtp::detail::default_environment scope;
    for (index_t i = next++; i < count; i = next++) {
      try {
        function(i);
      } catch (...) {
        next = count;
        const std::lock_guard lock(problem_guard);
        if (problem == nullptr) problem = std::current_exception();
      }
    }
  };

  const auto wanted = (std::min<index_t>)(allowed_threads(), count);
  std::vector<std::thread> others;
  others.reserve(static_cast<std::size_t>((std::max<index_t>)(wanted, 1)));
  try {
    while (static_cast<index_t>(others.size()) + 1 < wanted) others.emplace_back(work);
  } catch (const std::exception&) {  // no more threads, or no memory for one: those that run do all
  }
  work();
  for (std::thread& each : others) each.join();
  if (problem != nullptr) std::rethrow_exception(problem);
}

}  // namespace mtp::inline MTP_ABI::io
