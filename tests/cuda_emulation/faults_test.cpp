#include <doctest/doctest.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda_emulation/fixture.hpp"
#include "cuda_emulation/kernels.cuh"

namespace mtp::test::cuda_emulation_faults_cases {

namespace {

using cuda_detail::dynamic_shared;

/// The message of the fault that launching throws; empty if it throws none.
template <class... Parameters, class... Arguments>
std::string fault_of(const launch_shape& shape,
                     void (*kernel)(Parameters...),
                     Arguments... arguments) {
  std::string message;
  try {
    launch(shape, kernel, arguments...);
  } catch (const emulation::fault& fault) {
    message = fault.what();
  }
  // Whatever was abandoned, the next kernel runs.
  const device_array<float> x(std::vector<float>(64, 1.0f)), sum(1), maximum(1);
  CHECK(launch({1, 64, 128}, reduce_kernel<float>, x.data(), 64, sum.data(), maximum.data()) ==
        cudaSuccess);
  CHECK(sum.elements()[0] == 64);
  return message;
}

bool contains(const std::string& text, const std::string& part) {
  CAPTURE(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

__global__ void deadlock_kernel() {
  const unsigned lane = threadIdx.x % 32;
  if (threadIdx.x < 32 && lane != 3) {
    __shfl_sync(0xffffffffu, 1.0f, 0);
  } else {
    __syncthreads();
  }
}

TEST_CASE("a deadlock tells what every thread waits for") {
  in_every_order([] {
    const std::string text = fault_of({dim3(1, 2), 40}, deadlock_kernel);
    contains(text, "deadlock");
    contains(text, " 0-2: waiting in __shfl_sync with lanes 0xffffffff at ");
    contains(text, " 3: waiting in __syncthreads at ");
    contains(text, " 4-31: waiting in __shfl_sync");
    contains(text, " 32-39: waiting in __syncthreads");
    contains(text, "faults_test.cpp:");
    contains(text, "of (1, 2, 1) blocks of (40, 1, 1) threads");
  });
}

__global__ void divergent_kernel() {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

TEST_CASE("threads that meet at different barriers are a fault") {
  in_every_order([] { contains(fault_of({1, 64}, divergent_kernel), "divergent barriers"); });
}

__global__ void masks_kernel() {
  const unsigned lane = threadIdx.x;
  __shfl_sync(lane < 16 ? 0xffffffffu : 0xfffffffeu, lane, 1);
}
__global__ void operations_kernel() {
  if (threadIdx.x < 16) {
    __shfl_sync(0xffffffffu, 1, 0);
  } else {
    __ballot_sync(0xffffffffu, 1);
  }
}
__global__ void types_kernel() {
  if (threadIdx.x < 16) {
    __shfl_sync(0xffffffffu, 1.0f, 0);
  } else {
    __shfl_sync(0xffffffffu, 1.0, 0);
  }
}
__global__ void converging_kernel() {
  if (threadIdx.x < 16) {
    cuda_detail::converge_warp();
  } else {
    __syncwarp();
  }
}
__global__ void own_mask_kernel() {
  __syncwarp(0x0000fffeu);
}
__global__ void width_kernel(int width) {
  __shfl_xor_sync(0xffffffffu, 1, 1, width);
}

TEST_CASE("lanes must agree on the mask and on what they do") {
  in_every_order([] {
    contains(fault_of({1, 32}, masks_kernel), "disagree on the mask");
    contains(fault_of({1, 32}, operations_kernel), "disagree on what to do");
    contains(fault_of({1, 32}, types_kernel), "disagree on what to do");
    contains(fault_of({1, 32}, converging_kernel), "disagree on what to do");
    contains(fault_of({1, 1}, own_mask_kernel), "lane 0 is not in its own mask");
    contains(fault_of({1, 32}, width_kernel, 12), "power of two");
  });
}

__global__ void multiply_kernel(unsigned exiting) {
  float d[4] = {};
  const std::uint32_t a[4] = {}, b[2] = {};
  if (threadIdx.x != exiting) {
    cuda_detail::mma_m16n8k16(d, a, b);
  }
}

TEST_CASE("matrix instructions need a whole warp") {
  in_every_order([] {
    contains(fault_of({1, 31}, multiply_kernel, 99u), "mma_m16n8k16: needs all 32 lanes");
    const std::string text = fault_of({1, 32}, multiply_kernel, 5u);
    CHECK((text.find("needs all 32 lanes") != std::string::npos ||
           text.find("deadlock") != std::string::npos));
  });
}

__global__ void throwing_kernel() {
  if (threadIdx.x == 17) {
    throw std::runtime_error("broken");
  }
  __syncthreads();
}
__global__ void trap_kernel() {
  __trap();
}

TEST_CASE("exceptions and traps end a launch") {
  in_every_order([] {
    contains(fault_of({1, 32}, throwing_kernel), "an exception left the kernel: broken");
    contains(fault_of({1, 1}, trap_kernel), "__trap");
  });
  CHECK(std::uncaught_exceptions() == 0);
  CHECK(std::current_exception() == nullptr);
}

__global__ void empty_kernel() {}
__global__ void launching_kernel() {
  launch({1, 1}, empty_kernel);
}

TEST_CASE("kernels call nothing of the runtime") {
  contains(fault_of({1, 32}, launching_kernel), "cudaLaunchKernelEx: called by a kernel");
}

TEST_CASE("device functions do not work on the host") {
  CHECK_THROWS_AS(__syncthreads(), emulation::fault);
  CHECK_THROWS_AS(dynamic_shared<int>(), emulation::fault);
  int word = 0;
  CHECK_THROWS_AS(atomicAdd(&word, 1), emulation::fault);
}

// ---- memory -------------------------------------------------------------------------------------

__global__ void write_kernel(int* address, std::ptrdiff_t offset, bool shared) {
  (shared ? dynamic_shared<int>() : address)[offset] = 1;
}

TEST_CASE("writing beside memory is a fault" *
          doctest::skip(emulation::address_sanitized)) {  // which would end the process
  const device_array<int> x(10);
  for (const std::ptrdiff_t offset : {-1, 10, 100}) {
    contains(fault_of({1, 1, 40}, write_kernel, nullptr, offset, true), "shared memory");
    std::string message;
    try {
      launch({1, 1, 40}, write_kernel, x.data(), offset, false);
    } catch (const emulation::fault& fault) {
      message = fault.what();
    }
    contains(message, "beside an allocation of 40 bytes");
    const_cast<int*>(x.data())[offset] = static_cast<int>(0xa5a5a5a5u);  // the guard, mended
  }
  CHECK(launch({1, 1, 40}, write_kernel, x.data(), std::ptrdiff_t{9}, false) == cudaSuccess);
}

__global__ void poison_kernel(float* out) {
  out[blockIdx.x * 32 + threadIdx.x] = dynamic_shared<float>()[threadIdx.x];
  dynamic_shared<float>()[threadIdx.x] = 1;
}

TEST_CASE("shared memory is NaN at the beginning of every block, and so is device memory") {
  const restored_settings restored;
  for (const bool poison : {true, false}) {
    emulation::settings().poison = poison;
    const device_array<float> out(5 * 32), fresh(1);
    REQUIRE(launch({5, 32, 128}, poison_kernel, out.data()) == cudaSuccess);
    for (const float x : out.elements()) {
      CHECK((poison ? x != x : x == 0));
    }
    const float x = fresh.elements()[0];
    CHECK((poison ? x != x : x == 0));
  }
}

__global__ void alignment_kernel(unsigned* out) {
  out[0] = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(dynamic_shared<int>()) % 256);
}

TEST_CASE("shared memory is aligned to 128 bytes and no more") {
  const device_array<unsigned> out(1);
  REQUIRE(launch({1, 1, 4}, alignment_kernel, out.data()) == cudaSuccess);
  CHECK(out.elements()[0] == 128);
}

__global__ void copy_kernel(const char* from, std::ptrdiff_t to_offset, bool waits) {
  cuda_detail::copy_async_16(dynamic_shared<char>() + to_offset, from, true);
  cuda_detail::copy_async_commit();
  if (waits) {
    cuda_detail::copy_async_wait<0>();
  }
}
__global__ void copy_nothing_kernel(const char* from) {
  cuda_detail::copy_async_16(dynamic_shared<char>(), from, false);
  cuda_detail::copy_async_commit();
  cuda_detail::copy_async_wait<0>();
}
__global__ void load_matrix_kernel(std::ptrdiff_t offset) {
  std::uint32_t words[4];
  cuda_detail::load_matrix_x4(words, dynamic_shared<char>() + offset);
}

TEST_CASE("copies and matrices must be where they can be, and waited for") {
  in_every_order([] {
    const device_array<char> x(64);
    const char* const from = x.data();
    CHECK(fault_of({1, 1, 32}, copy_kernel, from, std::ptrdiff_t{16}, true).empty());
    contains(fault_of({1, 1, 32}, copy_kernel, from, std::ptrdiff_t{32}, true), "at offset 32");
    contains(fault_of({1, 1, 32}, copy_kernel, from, std::ptrdiff_t{-16}, true), "at offset -16");
    contains(fault_of({1, 1, 32}, copy_kernel, from, std::ptrdiff_t{8}, true),
             "shared memory is not a multiple of 16");
    contains(fault_of({1, 1, 32}, copy_kernel, from + 8, std::ptrdiff_t{0}, true),
             "device memory is not a multiple of 16");
    contains(fault_of({1, 1, 32}, copy_kernel, from, std::ptrdiff_t{0}, false),
             "exits with 1 copies that it never waited for");
    CHECK(fault_of({1, 1, 32}, copy_nothing_kernel, from + 48).empty());
    for (const char* const nowhere : {static_cast<const char*>(nullptr), from + 64, from + 4096}) {
      contains(fault_of({1, 1, 32}, copy_nothing_kernel, nowhere),
               "is not in memory of the device");
    }
    CHECK(fault_of({1, 32, 32}, load_matrix_kernel, std::ptrdiff_t{16}).empty());
    contains(fault_of({1, 32, 32}, load_matrix_kernel, std::ptrdiff_t{32}), "not within the 32");
    contains(fault_of({1, 32, 32}, load_matrix_kernel, std::ptrdiff_t{4}), "multiple of 16");
  });
}

}  // namespace

}  // namespace mtp::test::cuda_emulation_faults_cases
