#include <doctest/doctest.h>

#include <vector>

#include "cuda_emulation/fixture.hpp"
#include "cuda_emulation/kernels.cuh"

namespace mtp::test::cuda_emulation_barriers_races_cases {

namespace {

using cuda_detail::dynamic_shared;

static_assert(emulation::thread_sanitized);

bool reduction_is_right(unsigned threads) {
  const int count = 300;
  const device_array<float> x(std::vector<float>(count, 1.0f)), sum(1), maximum(1);
  launch({1, threads, 128}, reduce_kernel<float>, x.data(), count, sum.data(), maximum.data());
  return sum.elements()[0] == count && maximum.elements()[0] == 1;
}

TEST_CASE("a correct reduction has no races") {
  in_every_order([] {
    const long before = emulation::race_count();
    CHECK(reduction_is_right(128));
    CHECK(reduction_is_right(32));
    CHECK(emulation::race_count() == before);
  });
}

TEST_CASE("a reduction without one of its barriers has") {
  in_every_order([] {
    CHECK(emulation::unneeded_sites([] { return reduction_is_right(128); }).empty());
    CHECK(emulation::sites().size() == 2);
  });
}

__global__ void neighbours_kernel(int* result) {
  int* const shared = dynamic_shared<int>();
  const unsigned lane = threadIdx.x;
  for (int i = 0; i < 2; ++i) {
    shared[lane] = i;
    __syncwarp();
    result[lane] = shared[lane ^ 1];
    __syncwarp();
  }
}

TEST_CASE("barriers of a warp order its lanes") {
  in_every_order([] {
    const device_array<int> result(32);
    const auto run = [&] {
      launch({1, 32, 128}, neighbours_kernel, result.data());
      return result.elements() == std::vector<int>(32, 1);
    };
    const long before = emulation::race_count();
    CHECK(run());
    CHECK(emulation::race_count() == before);
    CHECK(emulation::unneeded_sites(run).empty());
  });
}

/// Like the first half of neighbours_kernel, with a shuffle where the barrier should be.
__global__ void shuffle_kernel(int* result) {
  int* const shared = dynamic_shared<int>();
  const unsigned lane = threadIdx.x;
  shared[lane] = 1;
  __shfl_sync(0xffffffffu, 0, 0);
  result[lane] = shared[lane ^ 1];
}

TEST_CASE("shuffles do not order memory") {
  const device_array<int> result(32);
  const long before = emulation::race_count();
  launch({1, 32, 128}, shuffle_kernel, result.data());
  CHECK(emulation::race_count() > before);
  CHECK(result.elements() == std::vector<int>(32, 1));
}

/// The lanes of each half order themselves; the halves do not.
__global__ void halves_kernel(int distance, int* result) {
  int* const shared = dynamic_shared<int>();
  const int lane = static_cast<int>(threadIdx.x);
  shared[lane] = lane;
  __syncwarp(lane < 16 ? 0x0000ffffu : 0xffff0000u);
  result[lane] = shared[lane ^ distance];
}

TEST_CASE("a barrier orders the lanes of its mask only") {
  in_every_order([] {
    const device_array<int> result(32);
    const long before = emulation::race_count();
    launch({1, 32, 128}, halves_kernel, 15, result.data());
    CHECK(emulation::race_count() == before);
    launch({1, 32, 128}, halves_kernel, 16, result.data());
    CHECK(emulation::race_count() > before);
  });
}

TEST_CASE("after a fault, no race is reported for the stacks of abandoned threads") {
  const auto kernel = +[](int* result) {
    volatile int local[8] = {};
    local[threadIdx.x % 8] = 1;
    result[threadIdx.x] = local[0];
    if (result[threadIdx.x] != 5) {
      __syncthreads();
    }
    if (threadIdx.x == 3) {
      __trap();
    }
  };
  const device_array<int> result(64);
  const long before = emulation::race_count();
  for (int i = 0; i < 3; ++i) {
    CHECK_THROWS_AS(launch({1, 64}, kernel, result.data()), emulation::fault);
    CHECK(reduction_is_right(64));
  }
  CHECK(emulation::race_count() == before);
}

}  // namespace

}  // namespace mtp::test::cuda_emulation_barriers_races_cases
