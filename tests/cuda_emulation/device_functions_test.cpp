#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "cuda_emulation/fixture.hpp"
#include "cuda_emulation/kernels.cuh"
#include "mtp/core/scalar.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::cuda_emulation_device_functions_cases {

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

TEST_CASE("pairs of bf16 are rounded like the library's own, and NaN like hardware's") {
  std::vector<float> numbers = {0.0f,
                                -0.0f,
                                1.0f,
                                -1.5f,
                                inf,
                                -inf,
                                0x1p-133f,
                                0x1p-149f,
                                3.4e38f,
                                1.00390625f,
                                1.01171875f,
                                -7.77f};
  for (const double x : normal(1000, 1, 100)) {
    numbers.push_back(static_cast<float>(x));
  }
  for (const float x : numbers) {
    const std::uint32_t expected = bf16(x).bits();
    CHECK(cuda_detail::pack_bf16(x, 1) == (expected | 0x3f800000u));
    CHECK(cuda_detail::pack_bf16(1, x) == (expected << 16 | 0x3f80u));
    const std::uint32_t pair = cuda_detail::pack_bf16(x, -x);
    CHECK(std::bit_cast<std::uint32_t>(cuda_detail::unpack_low(pair)) == expected << 16);
    CHECK(std::bit_cast<std::uint32_t>(cuda_detail::unpack_high(pair)) ==
          (expected << 16 ^ 0x80000000u));
  }
  CHECK(cuda_detail::pack_bf16(nan, std::bit_cast<float>(0xff800001u)) == 0x7fff7fffu);
}

TEST_CASE("exp2_approximate has no subnormal numbers") {
  CHECK(cuda_detail::exp2_approximate(0) == 1);
  CHECK(cuda_detail::exp2_approximate(-126) == 0x1p-126f);
  CHECK(cuda_detail::exp2_approximate(-126.5f) == 0);
  CHECK(cuda_detail::exp2_approximate(0x1p-140f) == 1);
  CHECK(cuda_detail::exp2_approximate(-inf) == 0);
  CHECK(cuda_detail::exp2_approximate(128) == inf);
  CHECK(std::isnan(cuda_detail::exp2_approximate(nan)));
}

TEST_CASE("maximum cares for NaN and for the sign of zero, but not for the order") {
  const auto bits = [](auto x) {
    using word = std::conditional_t<sizeof x == 4, std::uint32_t, std::uint64_t>;
    return std::bit_cast<word>(x);
  };
  const auto check = [&](auto zero) {
    using T = decltype(zero);
    const T numbers[] = {T(0),
                         -T(0),
                         T(1),
                         T(-2),
                         std::numeric_limits<T>::infinity(),
                         -std::numeric_limits<T>::infinity()};
    for (const T a : numbers) {
      for (const T b : numbers) {
        const T larger = a > b || (a == b && !std::signbit(a)) ? a : b;
        CHECK(bits(cuda_detail::maximum(a, b)) == bits(larger));
      }
      const T none = std::numeric_limits<T>::quiet_NaN();
      CHECK(bits(cuda_detail::maximum(a, none)) == bits(cuda_detail::maximum(-none, a)));
      CHECK(std::isnan(cuda_detail::maximum(a, none)));
    }
  };
  check(0.0f);
  check(0.0);
}

template <class T>
__global__ void warp_kernel(const T* x, T* sums, T* maxima) {
  sums[threadIdx.x] = cuda_detail::warp_sum(x[threadIdx.x]);
  maxima[threadIdx.x] = cuda_detail::warp_max(x[threadIdx.x]);
}

template <class T>
void check_warp(const std::vector<double>& numbers) {
  std::vector<T> elements(numbers.begin(), numbers.end());
  const device_array<T> x(elements), sum(32), maximum(32);
  REQUIRE(launch({1, 32}, warp_kernel<T>, x.data(), sum.data(), maximum.data()) == cudaSuccess);
  double total = 0, magnitude = 0;
  T largest = elements[0];
  for (const T element : elements) {
    total += static_cast<double>(element);
    magnitude += std::abs(static_cast<double>(element));
    largest = element > largest ? element : largest;
  }
  const std::vector<T> sums = sum.elements(), maxima = maximum.elements();
  CHECK(
      within({static_cast<double>(sums[0])}, {total}, sum_bound(32, unit_roundoff<T>, magnitude)));
  CHECK(same_bits(sums, std::vector<T>(32, sums[0])));
  CHECK(same_bits(maxima, std::vector<T>(32, largest)));
}

TEST_CASE("reductions of a warp give all lanes the same bits") {
  in_every_order([] {
    check_warp<float>(normal(32, 1));
    check_warp<double>(normal(32, 2));
    const device_array<float> x(std::vector<float>(32, -0.0f)), sum(32), maximum(32);
    float numbers[32] = {};
    for (int lane = 0; lane < 32; ++lane) {
      numbers[lane] = lane % 3 == 0 ? 0.0f : -0.0f;
    }
    numbers[9] = nan;
    cudaMemcpy(x.data(), numbers, sizeof numbers, cudaMemcpyHostToDevice);
    launch({1, 32}, warp_kernel<float>, x.data(), sum.data(), maximum.data());
    CHECK(same_bits(maximum.elements(), std::vector<float>(32, maximum.elements()[3])));
    CHECK(std::isnan(maximum.elements()[0]));
    numbers[9] = -0.0f;
    cudaMemcpy(x.data(), numbers, sizeof numbers, cudaMemcpyHostToDevice);
    launch({1, 32}, warp_kernel<float>, x.data(), sum.data(), maximum.data());
    CHECK(same_bits(maximum.elements(), std::vector<float>(32, 0.0f)));
  });
}

TEST_CASE("the other functions of the header work together") {
  in_every_order([] {
    std::vector<uint4> numbers(32);
    for (unsigned i = 0; i < 32; ++i) {
      numbers[i] = {i, i + 100, i + 200, i + 300};
    }
    const device_array<uint4> x(numbers), y(32);
    const device_array<float> z(std::vector<float>(32, 3));
    REQUIRE(launch({1, 32, 32 * 8}, other_functions_kernel<8>, x.data(), y.data(), z.data()) ==
            cudaSuccess);
    const std::vector<uint4> actual = y.elements();
    for (unsigned i = 0; i < 32; ++i) {
      CHECK(actual[i].y == i + 100);
      CHECK(actual[i].w == i + 300);
    }
    CHECK(z.elements() == std::vector<float>(32, 8));
  });
}

// ---- CUDA's own names ---------------------------------------------------------------------------

__global__ void indices_kernel(unsigned* seen) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  seen[block * 30 + thread] += 1;
  if (threadIdx.x >= 5 || threadIdx.y >= 3 || threadIdx.z >= 2 || gridDim.z != 4) {
    __trap();
  }
  __syncthreads();
  const unsigned again = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  seen[block * 30 + thread] += again == thread ? 0 : 1000;
}

TEST_CASE("every thread of every block runs once and knows its place") {
  in_every_order([] {
    const device_array<unsigned> seen(std::vector<unsigned>(24 * 30, 0));
    REQUIRE(launch({dim3(2, 3, 4), dim3(5, 3, 2)}, indices_kernel, seen.data()) == cudaSuccess);
    CHECK(seen.elements() == std::vector<unsigned>(24 * 30, 1));
  });
}

__global__ void order_kernel(unsigned* order, unsigned* next) {
  order[atomicAdd(next, 1u)] = blockIdx.x * 64 + threadIdx.x;
}

/// Block after block, with the numbers of all their threads in the order in which they ran.
std::vector<unsigned> order_of(std::uint64_t seed) {
  emulation::settings().seed = seed;
  const device_array<unsigned> order(6 * 64), next(std::vector<unsigned>{0});
  launch({6, 64}, order_kernel, order.data(), next.data());
  return order.elements();
}

TEST_CASE("the seed decides the order of blocks and threads") {
  const restored_settings restored;
  int other_blocks = 0, other_threads = 0;
  for (const std::uint64_t seed : {0u, 1u, 2u, 3u, 4u}) {
    const std::vector<unsigned> order = order_of(seed);
    CHECK(order_of(seed) == order);
    bool blocks_in_order = true, threads_in_order = true;
    for (unsigned i = 0; i < 6 * 64; ++i) {
      CHECK(order[i] / 64 == order[i / 64 * 64] / 64);
      blocks_in_order &= order[i] / 64 == i / 64;
      threads_in_order &= order[i] % 64 == i % 64;
    }
    CHECK((seed != 0 || (blocks_in_order && threads_in_order)));
    other_blocks += !blocks_in_order;
    other_threads += !threads_in_order;
  }
  CHECK(other_blocks >= 3);
  CHECK(other_threads == 4);
}

template <class T>
__global__ void atomics_kernel(T* x) {
  const T own = static_cast<T>(threadIdx.x);
  atomicAdd(&x[0], own);
  atomicMax(&x[1], own);
  atomicMin(&x[2], own);
  atomicExch(&x[3], 5);
  T seen = x[4];
  while (true) {
    const T old = atomicCAS(&x[4], seen, static_cast<T>(seen + 2));
    if (old == seen) {
      break;
    }
    seen = old;
  }
  __threadfence();
}

template <class T>
void check_atomics() {
  const device_array<T> x(std::vector<T>{static_cast<T>(-1), 3, 100, 0, 1});
  REQUIRE(launch({1, 50}, atomics_kernel<T>, x.data()) == cudaSuccess);
  CHECK(x.elements() == std::vector<T>{static_cast<T>(50 * 49 / 2 - 1), 49, 0, 5, 101});
}

TEST_CASE("atomics of every type") {
  check_atomics<int>();
  check_atomics<unsigned>();
  check_atomics<unsigned long long>();
}

TEST_CASE("functions of numbers") {
  CHECK(__popc(0xf0f0u) == 8);
  CHECK(__popcll(~0ull) == 64);
  CHECK(__clz(0) == 32);
  CHECK(__clz(1) == 31);
  CHECK(__clzll(0) == 64);
  CHECK(__ffs(0) == 0);
  CHECK(__ffs(8) == 4);
  CHECK(__umulhi(0xffffffffu, 0x10u) == 0xf);
  CHECK(__umul64hi(~0ull, 0x10ull) == 0xf);
  CHECK(rsqrtf(4) == 0.5f);
  CHECK(rsqrt(16.0) == 0.25);
  CHECK(__fdividef(3, 2) == 1.5f);
  CHECK(std::abs(__expf(1) - 2.7182818f) < 1e-6f);
  CHECK(max(2, 3) == 3);
  CHECK(min(2.0f, nan) == 2.0f);
  CHECK(__int_as_float(__float_as_int(1.5f)) == 1.5f);
  CHECK(__longlong_as_double(__double_as_longlong(-2.5)) == -2.5);
  static_assert(alignof(float4) == 16 && sizeof(float4) == 16 && alignof(uint2) == 8);
}

}  // namespace

}  // namespace mtp::test::cuda_emulation_device_functions_cases
