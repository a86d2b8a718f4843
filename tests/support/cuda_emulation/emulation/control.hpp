// What tests ask of the emulated runtime: errors at will, and counts of what was called.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "emulation/cuda_types.hpp"
#include "emulation/options.hpp"
#include "emulation/sites.hpp"

namespace mtp::emulation {

enum class device_state { available, none, driver_too_old };

/// What happened since the process began, except `live_...`: what there is now.
struct counters {
  long live_allocations = 0;  ///< of device memory and of pinned host memory
  std::size_t live_bytes = 0;
  long live_objects = 0;    ///< streams, events, graphs, their instances, and objects of cublasLt
  long allocations = 0;     ///< of device memory and of pinned host memory
  long frees = 0;           ///< each of them makes the host wait for the device
  long launches = 0;        ///< kernels launched, or recorded in a graph
  long early_launches = 0;  ///< of these, kernels that may begin before the one in front has ended
  long products = 0;        ///< the same for cublasLtMatmul
  long graph_launches = 0;
  long kernels_run = 0;       ///< kernels executed, also by graphs
  long blocks_run = 0;        ///< blocks of these
  long synchronizations = 0;  ///< calls that make the host wait: also copies that are not Async
  long pageable_copies = 0;   ///< Async copies of host memory that is not pinned: they wait as well
};

namespace detail {

struct injected_error {
  std::string call;
  int code;
  int after;  // calls that succeed before
};

struct runtime_state {
  device_state device = device_state::available;
  cudaError_t last_error = cudaSuccess;
  cudaError_t sticky_error = cudaSuccess;
  std::size_t memory_limit = ~std::size_t{0};
  std::vector<injected_error> injected;
  std::map<std::string, long, std::less<>> calls;
  counters counts;
};

inline runtime_state& runtime() {
  static runtime_state state;
  return state;
}

/// Calls of several host threads come one after the other, kernels included.
inline std::recursive_mutex& api_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

/// Counts a call. Returns the error that a test wants it to give.
inline std::optional<int> enter_call(const char* name) {
  runtime_state& state = runtime();
  ++state.calls[name];
  for (auto error = state.injected.begin(); error != state.injected.end(); ++error) {
    if (error->call == name && error->after-- == 0) {
      const int code = error->code;
      state.injected.erase(error);
      return code;
    }
  }
  return std::nullopt;
}

}  // namespace detail

inline const counters& counts() {
  return detail::runtime().counts;
}

/// How often a function of the runtime or of cublasLt was called, by its name.
inline long calls(std::string_view name) {
  const auto& calls = detail::runtime().calls;
  const auto found = calls.find(name);
  return found == calls.end() ? 0 : found->second;
}

/// The call of `name` that comes after `after` others fails with `code`, a cudaError_t or a
/// cublasStatus_t, and does nothing.
inline void fail_next(std::string_view name, int code, int after = 0) {
  detail::runtime().injected.push_back({std::string(name), code, after});
}

inline void set_device_state(device_state state) {
  detail::runtime().device = state;
}

/// cudaMalloc fails where more than this would be in use; cudaMemGetInfo tells it.
inline void limit_memory(std::size_t bytes) {
  detail::runtime().memory_limit = bytes;
}

/// From now on every call fails with `error`, as after a kernel that crashed.
inline void set_sticky_error(cudaError_t error) {
  detail::runtime().sticky_error = error;
}

/// Takes back everything that tests set: errors, limits, options. Counts go on.
inline void reset() {
  detail::runtime_state& state = detail::runtime();
  state.device = device_state::available;
  state.last_error = state.sticky_error = cudaSuccess;
  state.memory_limit = ~std::size_t{0};
  state.injected.clear();
  settings() = options_of_environment();
}

}  // namespace mtp::emulation
