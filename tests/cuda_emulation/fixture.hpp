// Arrays on the emulated device, and launches, for the tests of the emulation.
#pragma once

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "emulation/unneeded_sites.hpp"

namespace mtp::test {

/// Elements in device memory, NaN at first.
template <class T>
class device_array {
 public:
  explicit device_array(std::size_t count) : count_(count) {
    REQUIRE(cudaMalloc(&data_, count * sizeof(T)) == cudaSuccess);
  }
  explicit device_array(const std::vector<T>& elements) : device_array(elements.size()) {
    REQUIRE(cudaMemcpy(data_, elements.data(), count_ * sizeof(T), cudaMemcpyHostToDevice) ==
            cudaSuccess);
  }
  ~device_array() { cudaFree(data_); }
  device_array(const device_array&) = delete;
  device_array& operator=(const device_array&) = delete;

  T* data() const { return data_; }

  std::vector<T> elements() const {
    std::vector<T> elements(count_);
    REQUIRE(cudaMemcpy(elements.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost) ==
            cudaSuccess);
    return elements;
  }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

/// For tests that turn barriers off to see wrong results; their races are for those under
/// ThreadSanitizer, <name>_race.cpp.
inline const auto races_are_expected = doctest::skip(emulation::thread_sanitized);

struct launch_shape {
  dim3 grid, block;
  std::size_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
};

template <class... Parameters, class... Arguments>
cudaError_t launch(const launch_shape& shape,
                   void (*kernel)(Parameters...),
                   Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = shape.stream;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

/// Options as they were, at the end of a test.
struct restored_settings {
  restored_settings() { emulation::reset(); }
  ~restored_settings() { emulation::reset(); }
};

/// Runs `body(arguments...)` with each seed of a few, and both ways of copying.
template <class Body>
void in_every_order(const Body& body) {
  const restored_settings restored;
  for (const std::uint64_t seed : {0u, 1u, 2u, 3u}) {
    for (const auto copies : {emulation::copy_mode::eager, emulation::copy_mode::deferred}) {
      CAPTURE(seed);
      CAPTURE(static_cast<int>(copies));
      emulation::settings().seed = seed;
      emulation::settings().copies = copies;
      body();
    }
  }
}

}  // namespace mtp::test
