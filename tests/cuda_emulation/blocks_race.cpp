#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "cuda_emulation/fixture.hpp"
#include "cuda_emulation/kernels.cuh"

namespace mtp::test::cuda_emulation_blocks_races_cases {

namespace {

/// The races of a launch.
template <class... Parameters, class... Arguments>
long races_of(const launch_shape& shape, void (*kernel)(Parameters...), Arguments... arguments) {
  const long before = emulation::race_count();
  CHECK(launch(shape, kernel, arguments...) == cudaSuccess);
  return emulation::race_count() - before;
}

__global__ void same_address_kernel(int* x) {
  if (threadIdx.x == 0) {
    *x = 1;
  }
}
__global__ void own_address_kernel(int* x) {
  x[blockIdx.x * blockDim.x + threadIdx.x] = 1;
}
__global__ void atomic_kernel(unsigned* x) {
  atomicAdd(x, 1u);
  atomicMax(x + 1, threadIdx.x);
}
__global__ void atomic_and_plain_kernel(unsigned* x) {
  if (blockIdx.x == 0) {
    atomicAdd(x, 1u);
  } else {
    *x = 1;
  }
}

TEST_CASE("blocks that write one address race, whatever their threads") {
  in_every_order([] {
    const device_array<int> x(3 * 64);
    for (const unsigned threads : {1u, 32u, 64u}) {
      for (const unsigned blocks : {2u, 3u}) {
        CHECK(races_of({blocks, threads}, same_address_kernel, x.data()) > 0);
        CHECK(races_of({blocks, threads}, own_address_kernel, x.data()) == 0);
      }
    }
    CHECK(races_of({1, 64}, same_address_kernel, x.data()) == 0);
  });
}

TEST_CASE("atomics do not race with each other, but with plain accesses") {
  in_every_order([] {
    const device_array<unsigned> x(std::vector<unsigned>{0, 0});
    CHECK(races_of({3, 32}, atomic_kernel, x.data()) == 0);
    CHECK(x.elements() == std::vector<unsigned>{96, 31});
    CHECK(races_of({2, 1}, atomic_and_plain_kernel, x.data()) > 0);
  });
}

/// Every block leaves the sum of its threads, and whoever comes last adds the sums up.
/// fences: bit 0 before the atomic, bit 1 behind it.
__global__ void last_block_kernel(int fences, int* sums, unsigned* arrived, int* total) {
  int* const shared = cuda_detail::dynamic_shared<int>();
  const int sum = cuda_detail::warp_sum(static_cast<float>(threadIdx.x)) > 0 ? 32 : 0;
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = sum;
    if ((fences & 1) != 0) {
      __threadfence();
    }
    shared[0] = atomicAdd(arrived, 1u) == gridDim.x - 1;
    if ((fences & 2) != 0) {
      __threadfence();
    }
  }
  __syncthreads();
  if (shared[0] != 0 && threadIdx.x == 5) {
    *total = 0;
    for (unsigned b = 0; b < gridDim.x; ++b) {
      *total += sums[b];
    }
  }
}

TEST_CASE("the last block may read what others wrote if fences surround the atomic") {
  in_every_order([] {
    for (const int fences : {0, 1, 2, 3}) {
      CAPTURE(fences);
      const device_array<int> sums(4), total(1);
      const device_array<unsigned> arrived(std::vector<unsigned>{0});
      const long races = races_of(
          {4, 32, 4}, last_block_kernel, fences, sums.data(), arrived.data(), total.data());
      CHECK(total.elements()[0] == 128);
      CHECK((races == 0) == (fences == 3));
    }
  });
}

/// Every block uses the same addresses of shared memory and of the stack.
__global__ void private_memory_kernel(int* result) {
  int* const shared = cuda_detail::dynamic_shared<int>();
  volatile int local[16] = {};
  const unsigned thread = threadIdx.x;
  shared[thread] = static_cast<int>(thread);
  local[thread % 16] = 1;
  __syncthreads();
  result[blockIdx.x * blockDim.x + thread] = shared[blockDim.x - 1 - thread] + local[thread % 16];
}

TEST_CASE("shared memory and locals of different blocks do not race") {
  in_every_order([] {
    const device_array<int> result(40 * 32);
    CHECK(races_of({40, 32, 128}, private_memory_kernel, result.data()) == 0);
    CHECK(races_of({10, 128, 512}, private_memory_kernel, result.data()) == 0);
  });
}

TEST_CASE("kernels, copies and the host come one after the other") {
  const device_array<int> x(64);
  const long before = emulation::race_count();
  for (int i = 0; i < 3; ++i) {
    launch({2, 32}, own_address_kernel, x.data());
    std::vector<int> elements = x.elements();
    CHECK(std::accumulate(elements.begin(), elements.end(), 0) == 64);
    launch({1, 64}, own_address_kernel, x.data());
    cudaMemset(x.data(), 0, 64 * sizeof(int));
  }
  CHECK(emulation::race_count() == before);
}

}  // namespace

}  // namespace mtp::test::cuda_emulation_blocks_races_cases
