#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "cuda_emulation/fixture.hpp"
#include "cuda_emulation/kernels.cuh"
#include "cuda_emulation/products.hpp"

namespace mtp::test::cuda_emulation_copies_races_cases {

namespace {

TEST_CASE("the product has no races") {
  in_every_order([] {
    const long before = emulation::race_count();
    CHECK(product_is_right(65, 33, 72));
    CHECK(emulation::race_count() == before);
  });
}

TEST_CASE("the product needs every barrier and every wait") {
  const restored_settings restored;
  for (const auto copies : {emulation::copy_mode::eager, emulation::copy_mode::deferred}) {
    emulation::settings().copies = copies;
    CHECK(emulation::unneeded_sites([] { return product_is_right(64, 64, 96); }).empty());
    CHECK(emulation::sites().size() == 3);
  }
}

TEST_CASE("refilling a stage that others still read is a race, though the result is right") {
  const restored_settings restored;
  emulation::settings().copies = emulation::copy_mode::eager;
  emulation::forget_sites();
  CHECK(product_is_right(64, 64, 96));
  const std::vector<emulation::site> sites = emulation::sites();
  REQUIRE(sites.size() == 3);
  REQUIRE(sites[2].kind == emulation::site_kind::block_barrier);
  const emulation::disabled_site disabled(sites[2]);
  const long before = emulation::race_count();
  CHECK(product_is_right(64, 64, 96));
  CHECK(emulation::race_count() > before);
}

/// Waits and reads in every order: only the barrier behind the wait makes the copies of others
/// visible.
__global__ void order_kernel(int wait_first, const std::uint32_t* x, std::uint32_t* y) {
  std::uint32_t* const shared = cuda_detail::dynamic_shared<std::uint32_t>();
  const unsigned lane = threadIdx.x;
  cuda_detail::copy_async<4>(shared + lane, x + lane, true);
  cuda_detail::copy_async_commit();
  if (wait_first != 0) {
    cuda_detail::copy_async_wait<0>();
    __syncwarp();
  } else {
    __syncwarp();
    cuda_detail::copy_async_wait<0>();
  }
  y[lane] = shared[lane ^ 1];
}

TEST_CASE("a barrier before the wait does not help") {
  in_every_order([] {
    const device_array<std::uint32_t> x(std::vector<std::uint32_t>(32, 7)), y(32);
    const long before = emulation::race_count();
    launch({1, 32, 128}, order_kernel, 1, x.data(), y.data());
    CHECK(emulation::race_count() == before);
    launch({1, 32, 128}, order_kernel, 0, x.data(), y.data());
    CHECK(emulation::race_count() > before);
  });
}

}  // namespace

}  // namespace mtp::test::cuda_emulation_copies_races_cases
