#include <doctest/doctest.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "cuda_emulation/fixture.hpp"

namespace mtp::test::cuda_emulation_runtime_cases {

namespace {

__global__ void empty_kernel() {}

// ---- devices and errors -------------------------------------------------------------------------

TEST_CASE("the device describes itself") {
  const restored_settings restored;
  emulation::settings().multiprocessors = 7;
  emulation::settings().compute_major = 8;
  int count = 0, device = 5, value = 0;
  CHECK(cudaGetDeviceCount(&count) == cudaSuccess);
  CHECK(count == 1);
  CHECK(cudaGetDevice(&device) == cudaSuccess);
  CHECK(device == 0);
  CHECK(cudaSetDevice(0) == cudaSuccess);
  CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0) == cudaSuccess);
  CHECK(value == 7);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0) == cudaSuccess);
  CHECK(value == 227 * 1024);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess);
  CHECK(value == 8);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrL2CacheSize, 0) == cudaSuccess);
  CHECK(value > 0);
  CHECK(cudaDeviceGetAttribute(&value, static_cast<cudaDeviceAttr>(9999), 0) ==
        cudaErrorInvalidValue);
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
  CHECK(std::strlen(properties.name) > 0);
  CHECK(properties.multiProcessorCount == 7);
  CHECK(properties.totalGlobalMem > 0);
  CHECK(cudaGetDeviceProperties(&properties, 3) == cudaErrorInvalidDevice);
  CHECK(cudaRuntimeGetVersion(&value) == cudaSuccess);
  CHECK(value == 13000);
  CHECK(cudaDriverGetVersion(&value) == cudaSuccess);
  CHECK(value >= 13000);
  CHECK(std::string(cudaGetErrorName(cudaErrorNotReady)) == "cudaErrorNotReady");
  CHECK(std::string(cudaGetErrorName(static_cast<cudaError_t>(12345))) ==
        "unrecognized error code");
}

TEST_CASE("the last error is remembered until it is asked for") {
  const restored_settings restored;
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice);
  CHECK(cudaSetDevice(0) == cudaSuccess);
  CHECK(cudaPeekAtLastError() == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("devices may be missing, and drivers too old") {
  const restored_settings restored;
  int count = 3, version = 0;
  float* x = nullptr;
  emulation::set_device_state(emulation::device_state::none);
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
  CHECK(count == 0);
  CHECK(cudaMalloc(&x, 4) == cudaErrorNoDevice);
  CHECK(cudaDriverGetVersion(&version) == cudaSuccess);
  CHECK(version == 0);
  emulation::set_device_state(emulation::device_state::driver_too_old);
  CHECK(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver);
  CHECK(cudaDeviceSynchronize() == cudaErrorInsufficientDriver);
  CHECK(cudaDriverGetVersion(&version) == cudaSuccess);
  CHECK(version < 13000);
  emulation::reset();
  CHECK(cudaGetDeviceCount(&count) == cudaSuccess);
}

TEST_CASE("errors come where a test wants them, once") {
  const restored_settings restored;
  float* x = nullptr;
  emulation::fail_next("cudaMalloc", cudaErrorMemoryAllocation, 1);
  const long live = emulation::counts().live_allocations;
  REQUIRE(cudaMalloc(&x, 4) == cudaSuccess);
  CHECK(cudaMalloc(&x, 4) == cudaErrorMemoryAllocation);
  CHECK(emulation::counts().live_allocations == live + 1);
  CHECK(cudaFree(x) == cudaSuccess);

  emulation::fail_next("cudaLaunchKernelEx", cudaErrorLaunchFailure);
  const long run = emulation::counts().kernels_run;
  CHECK(launch({1, 1}, empty_kernel) == cudaErrorLaunchFailure);
  CHECK(emulation::counts().kernels_run == run);
  CHECK(launch({1, 1}, empty_kernel) == cudaSuccess);

  emulation::set_sticky_error(cudaErrorIllegalAddress);
  CHECK(launch({1, 1}, empty_kernel) == cudaErrorIllegalAddress);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
  CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
  emulation::reset();
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

// ---- memory -------------------------------------------------------------------------------------

TEST_CASE("memory is limited, counted and given back") {
  const restored_settings restored;
  const emulation::counters before = emulation::counts();
  emulation::limit_memory(1000);
  char *x = nullptr, *y = nullptr, *pinned = nullptr;
  std::size_t available = 0, total = 0;
  REQUIRE(cudaMalloc(&x, 600) == cudaSuccess);
  CHECK(reinterpret_cast<std::size_t>(x) % 256 == 0);
  CHECK(cudaMalloc(&y, 401) == cudaErrorMemoryAllocation);
  CHECK(y == nullptr);
  CHECK(cudaMemGetInfo(&available, &total) == cudaSuccess);
  CHECK(available == 400);
  CHECK(total == 1000);
  REQUIRE(cudaMalloc(&y, 400) == cudaSuccess);
  REQUIRE(cudaMallocHost(&pinned, 5000) == cudaSuccess);
  CHECK(emulation::counts().live_allocations == before.live_allocations + 3);
  CHECK(emulation::counts().live_bytes == before.live_bytes + 6000);
  CHECK(emulation::counts().allocations == before.allocations + 3);
  CHECK(cudaFree(x + 1) == cudaErrorInvalidValue);
  CHECK(cudaFree(pinned) == cudaErrorInvalidValue);
  CHECK(cudaFreeHost(x) == cudaErrorInvalidValue);
  CHECK(cudaFree(x) == cudaSuccess);
  CHECK(cudaFree(x) == cudaErrorInvalidValue);
  CHECK(cudaFree(y) == cudaSuccess);
  CHECK(cudaFree(nullptr) == cudaSuccess);
  CHECK(cudaFreeHost(pinned) == cudaSuccess);
  CHECK(emulation::counts().live_allocations == before.live_allocations);
  CHECK(emulation::counts().frees == before.frees + 3);
}

TEST_CASE("copies go where they say") {
  const restored_settings restored;
  std::vector<int> numbers = {1, 2, 3, 4, 5, 6};
  const std::size_t bytes = numbers.size() * sizeof(int);
  const device_array<int> x(6), y(6);
  CHECK(cudaMemcpy(x.data(), numbers.data(), bytes, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(cudaMemcpy(y.data(), x.data(), bytes, cudaMemcpyDeviceToDevice) == cudaSuccess);
  CHECK(y.elements() == numbers);
  std::vector<int> back(6);
  CHECK(cudaMemcpy(back.data(), y.data(), bytes, cudaMemcpyDefault) == cudaSuccess);
  CHECK(back == numbers);
  CHECK(cudaMemcpy(x.data(), numbers.data(), bytes, cudaMemcpyDeviceToHost) ==
        cudaErrorInvalidValue);
  CHECK(cudaMemcpy(back.data(), numbers.data(), bytes, cudaMemcpyHostToDevice) ==
        cudaErrorInvalidValue);
  CHECK(cudaMemcpy(back.data(), x.data() + 1, bytes, cudaMemcpyDeviceToHost) ==
        cudaErrorInvalidValue);
  CHECK(cudaMemcpyAsync(back.data(), x.data(), 0, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(cudaMemset(x.data(), 0, bytes) == cudaSuccess);
  CHECK(cudaMemset(x.data(), 0, bytes + 1) == cudaErrorInvalidValue);
  CHECK(cudaMemset(back.data(), 0, bytes) == cudaErrorInvalidValue);
  CHECK(x.elements() == std::vector<int>(6, 0));

  // The left [2, 2] of a [2, 3].
  CHECK(cudaMemcpy2DAsync(x.data(), 12, numbers.data(), 12, 8, 2, cudaMemcpyHostToDevice) ==
        cudaSuccess);
  CHECK(x.elements() == std::vector<int>{1, 2, 0, 4, 5, 0});
  CHECK(cudaMemcpy2DAsync(x.data(), 4, numbers.data(), 12, 8, 2, cudaMemcpyHostToDevice) ==
        cudaErrorInvalidPitchValue);
}

TEST_CASE("copies of pageable memory and waits of the host are counted") {
  const restored_settings restored;
  const device_array<int> x(1);
  int pageable = 0, *pinned = nullptr;
  REQUIRE(cudaHostAlloc(&pinned, sizeof(int), cudaHostAllocDefault) == cudaSuccess);
  const emulation::counters before = emulation::counts();
  cudaMemcpyAsync(pinned, x.data(), sizeof(int), cudaMemcpyDeviceToHost);
  CHECK(emulation::counts().pageable_copies == before.pageable_copies);
  cudaMemcpyAsync(&pageable, x.data(), sizeof(int), cudaMemcpyDeviceToHost);
  CHECK(emulation::counts().pageable_copies == before.pageable_copies + 1);
  CHECK(emulation::counts().synchronizations == before.synchronizations);
  cudaMemcpy(&pageable, x.data(), sizeof(int), cudaMemcpyDeviceToHost);
  cudaDeviceSynchronize();
  cudaStreamSynchronize(nullptr);
  CHECK(emulation::counts().synchronizations == before.synchronizations + 3);
  const long calls = emulation::calls("cudaDeviceSynchronize");
  cudaDeviceSynchronize();
  CHECK(emulation::calls("cudaDeviceSynchronize") == calls + 1);
  cudaFreeHost(pinned);
}

__global__ void count_kernel(unsigned* count) {
  __syncthreads();
  atomicAdd(count, 1u);
}

TEST_CASE("several threads of the host may call at once") {
  const device_array<unsigned> count(std::vector<unsigned>{0});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int repeat = 0; repeat < 10; ++repeat) {
        launch({2, 64}, count_kernel, count.data());
        cudaStreamSynchronize(nullptr);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(count.elements()[0] == 4 * 10 * 2 * 64);
}

// ---- launches -----------------------------------------------------------------------------------

TEST_CASE("launches are checked like CUDA checks them") {
  const restored_settings restored;
  const emulation::counters before = emulation::counts();
  for (const launch_shape& wrong : {launch_shape{0, 1},
                                    launch_shape{dim3(1, 0), 1},
                                    launch_shape{dim3(1, 1, 0), 1},
                                    launch_shape{1, 0},
                                    launch_shape{1, 1025},
                                    launch_shape{1, dim3(32, 33)},
                                    launch_shape{1, dim3(1, 1, 65)},
                                    launch_shape{dim3(1, 65536), 1},
                                    launch_shape{dim3(1, 1, 65536), 1},
                                    launch_shape{0x80000000u, 1}}) {
    CHECK(launch(wrong, empty_kernel) == cudaErrorInvalidConfiguration);
  }
  CHECK(emulation::counts().launches == before.launches);
  CHECK(launch({1, dim3(1, 1, 64)}, empty_kernel) == cudaSuccess);
  CHECK(launch({1, dim3(16, 64)}, empty_kernel) == cudaSuccess);
  CHECK(emulation::counts().launches == before.launches + 2);
  CHECK(emulation::counts().kernels_run == before.kernels_run + 2);
}

__global__ void shared_kernel() {}

TEST_CASE("more than 48 KiB of shared memory must be asked for, and more than 227 are too many") {
  CHECK(launch({1, 1, 48 * 1024}, shared_kernel) == cudaSuccess);
  CHECK(launch({1, 1, 48 * 1024 + 1}, shared_kernel) == cudaErrorInvalidValue);
  const auto ask = [](int bytes) {
    return cudaFuncSetAttribute(shared_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  };
  CHECK(ask(100 * 1024) == cudaSuccess);
  CHECK(launch({1, 1, 100 * 1024}, shared_kernel) == cudaSuccess);
  CHECK(launch({1, 1, 100 * 1024 + 1}, shared_kernel) == cudaErrorInvalidValue);
  CHECK(ask(227 * 1024) == cudaSuccess);
  CHECK(launch({1, 1, 227 * 1024}, shared_kernel) == cudaSuccess);
  CHECK(ask(227 * 1024 + 1) == cudaErrorInvalidValue);

  int blocks = 0;
  const auto fit = [&](int threads, std::size_t bytes) {
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, shared_kernel, threads, bytes) ==
          cudaSuccess);
    return blocks;
  };
  CHECK(fit(1024, 0) == 2);
  CHECK(fit(33, 0) == 32);
  CHECK(fit(128, 100 * 1024) == 2);
  CHECK(fit(128, 227 * 1024) == 1);
  CHECK(fit(1025, 0) == 0);

  const restored_settings restored;
  emulation::settings().block_shared_bytes = 99 * 1024;
  emulation::settings().multiprocessor_shared_bytes = 100 * 1024;
  CHECK(ask(99 * 1024) == cudaSuccess);
  CHECK(ask(99 * 1024 + 1) == cudaErrorInvalidValue);
  CHECK(fit(128, 49 * 1024) == 2);
  CHECK(fit(128, 50 * 1024) == 1);
}

TEST_CASE("a program may hold no code for a device") {
  const restored_settings restored;
  cudaFuncAttributes attributes;
  CHECK(cudaFuncGetAttributes(&attributes, shared_kernel) == cudaSuccess);
  CHECK(attributes.maxThreadsPerBlock == 1024);
  emulation::settings().has_code = false;
  CHECK(cudaFuncGetAttributes(&attributes, shared_kernel) == cudaErrorNoKernelImageForDevice);
  CHECK(launch({1, 1}, empty_kernel) == cudaErrorNoKernelImageForDevice);
  static_cast<void>(cudaGetLastError());
}

}  // namespace

}  // namespace mtp::test::cuda_emulation_runtime_cases
