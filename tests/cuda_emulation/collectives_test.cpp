#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cuda_emulation/fixture.hpp"
#include "cuda_emulation/kernels.cuh"
#include "support/compare.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::cuda_emulation_collectives_cases {

namespace {

template <class T>
void check_reduction(unsigned threads, int count) {
  CAPTURE(threads);
  CAPTURE(count);
  const unsigned blocks = 3;
  const std::vector<double> numbers = uniform(index_t{blocks} * count, 1);
  std::vector<T> elements(numbers.begin(), numbers.end());
  std::vector<double> sums(blocks), maxima(blocks), bounds(blocks);
  for (unsigned b = 0; b < blocks; ++b) {
    maxima[b] = -HUGE_VAL;
    double magnitude = 0;
    for (int i = 0; i < count; ++i) {
      const auto x = static_cast<double>(
          elements[b * static_cast<unsigned>(count) + static_cast<unsigned>(i)]);
      sums[b] += x;
      magnitude += std::abs(x);
      maxima[b] = std::max(maxima[b], x);
    }
    bounds[b] = sum_bound(count, unit_roundoff<T>, magnitude);
  }
  const device_array<T> x(elements), sum(blocks), maximum(blocks);
  REQUIRE(launch({blocks, threads, 32 * sizeof(T)},
                 reduce_kernel<T>,
                 x.data(),
                 count,
                 sum.data(),
                 maximum.data()) == cudaSuccess);
  const auto as_doubles = [](const std::vector<T>& values) {
    return std::vector<double>(values.begin(), values.end());
  };
  CHECK(within(as_doubles(sum.elements()), sums, bounds));
  CHECK(within(as_doubles(maximum.elements()), maxima, 0));
}

TEST_CASE("a block reduces its elements") {
  in_every_order([] {
    for (const int count : {1, 31, 257, 500}) {
      check_reduction<float>(32, count);
      check_reduction<double>(96, count);
      check_reduction<float>(256, count);
    }
  });
  check_reduction<double>(1024, 2000);
}

TEST_CASE("reductions in every order give the same bits") {
  std::vector<std::vector<float>> results;
  const std::vector<double> numbers = uniform(777, 2);
  in_every_order([&] {
    const device_array<float> x(std::vector<float>(numbers.begin(), numbers.end()));
    const device_array<float> sum(1), maximum(1);
    launch({1, 128, 128}, reduce_kernel<float>, x.data(), 777, sum.data(), maximum.data());
    results.push_back(sum.elements());
    CHECK(same_bits(results.back(), results.front()));
  });
}

// ---- shuffles -----------------------------------------------------------------------------------

enum class mode { index, up, down, exclusive_or };

constexpr int widths = 6, arguments = 32;  // 1, 2, .. 32 and 0, 1, .. 31

/// Lanes outside of `mask` leave early, so the others shuffle among themselves.
template <class T, mode Mode>
__global__ void shuffle_kernel(unsigned mask, T* result) {  // [widths, arguments, 32]
  const unsigned lane = threadIdx.x;
  if ((mask >> lane & 1) == 0) {
    return;
  }
  const T value = static_cast<T>(lane + 1);
  result += lane;
  for (int width = 1; width <= 32; width *= 2) {
    for (int argument = 0; argument < arguments; ++argument, result += 32) {
      if constexpr (Mode == mode::index) {
        *result = __shfl_sync(mask, value, argument, width);
      } else if constexpr (Mode == mode::up) {
        *result = __shfl_up_sync(mask, value, static_cast<unsigned>(argument), width);
      } else if constexpr (Mode == mode::down) {
        *result = __shfl_down_sync(mask, value, static_cast<unsigned>(argument), width);
      } else {
        *result = __shfl_xor_sync(mask, value, argument, width);
      }
    }
  }
}

/// The lane to read from, after the CUDA programming guide.
int expected_source(mode how, int lane, int argument, int width) {
  const int segment = lane / width * width;
  switch (how) {
    case mode::index:
      return segment + argument % width;
    case mode::up:
      return lane - argument < segment ? lane : lane - argument;
    case mode::down:
      return lane + argument >= segment + width ? lane : lane + argument;
    default:
      return (lane ^ argument) >= segment + width ? lane : lane ^ argument;
  }
}

constexpr unsigned masks[] = {0xffffffffu,
                              0x0000ffffu,
                              0xffff0000u,
                              0x55555555u,
                              0x80000001u,
                              0x00000001u,
                              0x7fffffffu,
                              0x0ff00ff0u};

template <class T, mode Mode>
void check_shuffles() {
  for (const unsigned mask : masks) {
    CAPTURE(mask);
    const device_array<T> result(std::size_t{widths} * arguments * 32);
    REQUIRE(launch({1, 32}, shuffle_kernel<T, Mode>, mask, result.data()) == cudaSuccess);
    const std::vector<T> actual = result.elements();
    int faults = 0;
    for (int i = 0; i < widths * arguments * 32; ++i) {
      const int width = 1 << (i / 32 / arguments), argument = i / 32 % arguments, lane = i % 32;
      if ((mask >> lane & 1) == 0) {
        continue;
      }
      const int source = expected_source(Mode, lane, argument, width);
      const T value = actual[static_cast<std::size_t>(i)];
      if ((mask >> source & 1) != 0) {
        faults += !(value == static_cast<T>(source + 1));
      } else if constexpr (std::is_floating_point_v<T>) {
        faults += !std::isnan(value);
      } else {
        faults += value != static_cast<T>(-1);
      }
    }
    CHECK(faults == 0);
  }
}

TEST_CASE("shuffles read from the lanes that CUDA names, and NaN from lanes that take no part") {
  in_every_order([] {
    check_shuffles<float, mode::index>();
    check_shuffles<int, mode::up>();
    check_shuffles<double, mode::down>();
    check_shuffles<unsigned long long, mode::exclusive_or>();
  });
}

/// Lanes 0-3, 4-19 and 20-31 go through different numbers of shuffles before all meet.
__global__ void groups_kernel(int* result) {
  const int lane = static_cast<int>(threadIdx.x);
  int value = lane;
  if (lane < 4) {
    for (int i = 0; i < 5; ++i) {
      value += __shfl_xor_sync(0x0000000fu, value, 1 + i % 3);
    }
  } else if (lane < 20) {
    value += __shfl_sync(0x000ffff0u, value, 7);
  }
  result[lane] = value + __shfl_sync(0xffffffffu, value, 0);
}

TEST_CASE("groups of lanes go their own ways and meet again") {
  in_every_order([] {
    const device_array<int> result(32);
    REQUIRE(launch({1, 32}, groups_kernel, result.data()) == cudaSuccess);
    std::vector<int> expected(32);
    int four[4] = {0, 1, 2, 3};
    for (int i = 0; i < 5; ++i) {
      int next[4];
      for (int lane = 0; lane < 4; ++lane) {
        next[lane] = four[lane] + four[lane ^ (1 + i % 3)];
      }
      std::copy_n(next, 4, four);
    }
    for (int lane = 0; lane < 32; ++lane) {
      const int own = lane < 4 ? four[lane] : lane < 20 ? lane + 7 : lane;
      expected[static_cast<std::size_t>(lane)] = own + four[0];
    }
    CHECK(result.elements() == expected);
  });
}

// ---- votes and barriers -------------------------------------------------------------------------

__global__ void vote_kernel(unsigned mask, unsigned predicates, unsigned* result) {
  const unsigned lane = threadIdx.x;
  if ((mask >> lane & 1) == 0) {
    return;
  }
  const int predicate = static_cast<int>(predicates >> lane & 1);
  result[lane] = __ballot_sync(mask, predicate);
  result[32 + lane] = static_cast<unsigned>(__any_sync(mask, predicate));
  result[64 + lane] = static_cast<unsigned>(__all_sync(mask, predicate));
}

TEST_CASE("votes count the lanes of the mask") {
  for (const unsigned mask : masks) {
    for (const unsigned predicates : {0u, 0xffffffffu, 0x00010001u, 0xfffffffeu, mask}) {
      const device_array<unsigned> result(96);
      REQUIRE(launch({1, 32}, vote_kernel, mask, predicates, result.data()) == cudaSuccess);
      const std::vector<unsigned> actual = result.elements();
      for (unsigned lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1) != 0) {
          CHECK(actual[lane] == (predicates & mask));
          CHECK(actual[32 + lane] == ((predicates & mask) != 0 ? 1u : 0u));
          CHECK(actual[64 + lane] == ((predicates & mask) == mask ? 1u : 0u));
        }
      }
    }
  }
}

/// Every third thread exits after the first barrier; the others go on without it.
__global__ void barriers_kernel(int* result) {
  int* const shared = mtp::cuda_detail::dynamic_shared<int>();
  const int thread = static_cast<int>(threadIdx.x);
  shared[thread] = thread;
  const int odd = __syncthreads_count(thread % 2);
  const int next = shared[(thread + 1) % static_cast<int>(blockDim.x)];
  if (thread % 3 == 0) {
    return;
  }
  const int some = __syncthreads_or(thread == 7), none = __syncthreads_or(thread < 0);
  const int every = __syncthreads_and(thread % 3 != 0), most = __syncthreads_and(thread != 7);
  result[thread] = odd * 10000 + next * 10 + some * 4 + none * 8 + every * 2 + most;
}

TEST_CASE("barriers count threads, also after some have exited") {
  in_every_order([] {
    for (const unsigned threads : {1u, 33u, 100u, 250u}) {
      const device_array<int> result(threads);
      REQUIRE(launch({1, threads, threads * sizeof(int)}, barriers_kernel, result.data()) ==
              cudaSuccess);
      const std::vector<int> actual = result.elements();
      for (unsigned thread = 0; thread < threads; ++thread) {
        const bool has_seven = threads > 7;
        const unsigned expected = threads / 2 * 10000 + (thread + 1) % threads * 10 +
                                  (has_seven ? 4 : 0) + 2 + (has_seven ? 0 : 1);
        CHECK(actual[thread] == (thread % 3 == 0 ? -1 : static_cast<int>(expected)));
      }
    }
  });
}

__global__ void warp_barrier_kernel(int* result) {
  int* const shared = mtp::cuda_detail::dynamic_shared<int>();
  const unsigned lane = threadIdx.x;
  for (int i = 0; i < 3; ++i) {
    shared[lane] = static_cast<int>(lane) * i;
    __syncwarp();
    result[lane] = shared[lane ^ 5];
    __syncwarp();
  }
}

TEST_CASE("lanes of a warp wait for each other, and both waits are needed" * races_are_expected) {
  in_every_order([] {
    const device_array<int> result(32);
    const auto run = [&] {
      REQUIRE(launch({1, 32, 128}, warp_barrier_kernel, result.data()) == cudaSuccess);
      const std::vector<int> actual = result.elements();
      bool right = true;
      for (int lane = 0; lane < 32; ++lane) {
        right &= actual[static_cast<std::size_t>(lane)] == (lane ^ 5) * 2;
      }
      return right;
    };
    CHECK(run());
    emulation::forget_sites();
    run();
    const std::vector<emulation::site> sites = emulation::sites();
    REQUIRE(sites.size() == 2);
    CHECK(sites[0].visits == 3 * 32);
    CHECK(sites[0].kind == emulation::site_kind::warp_barrier);
    if (emulation::settings().seed == 0) {
      const emulation::disabled_site disabled(sites[0]);
      CHECK_FALSE(run());
    }
    CHECK(run());
  });
}

}  // namespace

}  // namespace mtp::test::cuda_emulation_collectives_cases
