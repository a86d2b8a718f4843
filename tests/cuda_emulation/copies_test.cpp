#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "cuda_emulation/fixture.hpp"
#include "cuda_emulation/kernels.cuh"

namespace mtp::test::cuda_emulation_copies_cases {

namespace {

std::vector<std::uint32_t> counting(std::uint32_t count) {
  std::vector<std::uint32_t> numbers(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    numbers[i] = i;
  }
  return numbers;
}

/// Copies Bytes per lane; lanes from `valid` on get zeros, half of them under the address of lane
/// 0.
template <int Bytes>
__global__ void copy_kernel(unsigned valid, const unsigned char* x, std::uint32_t* y) {
  unsigned char* const shared = cuda_detail::dynamic_shared<unsigned char>();
  const unsigned lane = threadIdx.x;
  const bool is_valid = lane < valid;
  cuda_detail::copy_async<Bytes>(
      shared + lane * Bytes, x + (is_valid || lane % 2 == 0 ? lane * Bytes : 0), is_valid);
  cuda_detail::copy_async_commit();
  cuda_detail::copy_async_wait<0>();
  for (unsigned word = 0; word < Bytes / 4; ++word) {
    y[lane * (Bytes / 4) + word] =
        reinterpret_cast<const std::uint32_t*>(shared)[lane * (Bytes / 4) + word];
  }
}

template <int Bytes>
void check_copy() {
  const std::uint32_t words = 32 * Bytes / 4;
  const device_array<std::uint32_t> x(counting(words)), y(words);
  for (const unsigned valid : {0u, 1u, 19u, 32u}) {
    REQUIRE(launch({1, 32, 32 * Bytes},
                   copy_kernel<Bytes>,
                   valid,
                   reinterpret_cast<const unsigned char*>(x.data()),
                   y.data()) == cudaSuccess);
    std::vector<std::uint32_t> expected = counting(words);
    for (std::uint32_t i = valid * Bytes / 4; i < words; ++i) {
      expected[i] = 0;
    }
    CHECK(y.elements() == expected);
  }
}

TEST_CASE("copies of every width arrive, with zeros for what is not valid") {
  in_every_order([] {
    check_copy<4>();
    check_copy<8>();
    check_copy<16>();
  });
}

/// Starts `groups` copies in as many groups, one more that is not committed, waits until Pending
/// are left, and shows what has arrived.
template <int Pending>
__global__ void groups_kernel(int groups, const std::uint32_t* x, std::uint32_t* y) {
  std::uint32_t* const shared = cuda_detail::dynamic_shared<std::uint32_t>();
  for (int i = 0; i < groups; ++i) {
    cuda_detail::copy_async<4>(shared + i, x + i, true);
    cuda_detail::copy_async_commit();
  }
  cuda_detail::copy_async<4>(shared + groups, x + groups, true);
  cuda_detail::copy_async_wait<Pending>();
  for (int i = 0; i <= groups; ++i) {
    y[i] = shared[i];
  }
  cuda_detail::copy_async_commit();
  cuda_detail::copy_async_wait<0>();
  y[groups + 1] = shared[groups];
}

template <int Pending>
void check_groups(bool deferred) {
  for (const int groups : {0, 1, 2, 5, 200}) {
    const auto count = static_cast<std::uint32_t>(groups);
    const device_array<std::uint32_t> x(counting(count + 1)), y(count + 2);
    REQUIRE(launch({1, 1, (count + 1) * 4}, groups_kernel<Pending>, groups, x.data(), y.data()) ==
            cudaSuccess);
    std::vector<std::uint32_t> expected = counting(count + 2);
    expected[count + 1] = count;
    for (std::uint32_t i = 0; deferred && i <= count; ++i) {
      if (static_cast<int>(i) >= groups - Pending) {
        expected[i] = 0xffffffffu;
      }
    }
    CHECK(y.elements() == expected);
  }
}

TEST_CASE("deferred copies arrive when a wait asks for their group, eager ones at once") {
  const restored_settings restored;
  for (const bool deferred : {false, true}) {
    emulation::settings().copies =
        deferred ? emulation::copy_mode::deferred : emulation::copy_mode::eager;
    check_groups<0>(deferred);
    check_groups<1>(deferred);
    check_groups<3>(deferred);
  }
}

/// Reads one group too early: wait<2> where wait<1> would be right.
template <int Pending>
__global__ void pipeline_kernel(const float* x, float* y) {
  float* const shared = cuda_detail::dynamic_shared<float>();
  for (int i = 0; i < 2; ++i) {
    cuda_detail::copy_async<4>(shared + i, x + i, true);
    cuda_detail::copy_async_commit();
  }
  cuda_detail::copy_async_wait<Pending>();
  y[0] = shared[0];
  cuda_detail::copy_async_wait<0>();
  y[1] = shared[1];
}

TEST_CASE("a wait for too few groups reads NaN where copies are deferred") {
  const restored_settings restored;
  const device_array<float> x(std::vector<float>{1, 2}), y(2);
  emulation::settings().copies = emulation::copy_mode::deferred;
  REQUIRE(launch({1, 1, 8}, pipeline_kernel<1>, x.data(), y.data()) == cudaSuccess);
  CHECK(y.elements() == std::vector<float>{1, 2});
  REQUIRE(launch({1, 1, 8}, pipeline_kernel<2>, x.data(), y.data()) == cudaSuccess);
  CHECK(y.elements()[0] != y.elements()[0]);
  CHECK(y.elements()[1] == 2);

  emulation::settings().copies = emulation::copy_mode::eager;
  REQUIRE(launch({1, 1, 8}, pipeline_kernel<2>, x.data(), y.data()) == cudaSuccess);
  CHECK(y.elements() == std::vector<float>{1, 2});
}

TEST_CASE("a wait that is turned off waits for nothing") {
  const restored_settings restored;
  emulation::settings().copies = emulation::copy_mode::deferred;
  const device_array<float> x(std::vector<float>{1, 2}), y(2);
  emulation::forget_sites();
  REQUIRE(launch({1, 1, 8}, pipeline_kernel<1>, x.data(), y.data()) == cudaSuccess);
  const std::vector<emulation::site> sites = emulation::sites();
  REQUIRE(sites.size() == 2);
  CHECK(sites[0].kind == emulation::site_kind::copy_wait);
  CHECK(sites[0].visits == 1);
  {
    const emulation::disabled_site disabled(sites[0]);
    REQUIRE(launch({1, 1, 8}, pipeline_kernel<1>, x.data(), y.data()) == cudaSuccess);
    CHECK(y.elements()[0] != y.elements()[0]);
  }
  {
    const emulation::disabled_site disabled(sites[1]);
    CHECK_THROWS_AS(launch({1, 1, 8}, pipeline_kernel<1>, x.data(), y.data()), emulation::fault);
  }
  REQUIRE(launch({1, 1, 8}, pipeline_kernel<1>, x.data(), y.data()) == cudaSuccess);
  CHECK(y.elements() == std::vector<float>{1, 2});
  CHECK_THROWS_AS(emulation::disabled_site({emulation::site_kind::copy_wait, "nowhere", 1, 0}),
                  std::invalid_argument);
}

}  // namespace

}  // namespace mtp::test::cuda_emulation_copies_cases
