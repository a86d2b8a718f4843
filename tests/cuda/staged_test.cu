// Operands of tests: kernels see device memory, the host sees what kernels have made of it.
#include <doctest/doctest.h>

#include <cstdint>

#include "support/cuda_cases.hpp"
// The backend comes first.
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"

namespace mtp::test::cuda_staged_cases {
namespace {

__global__ void store_kernel(float* x, index_t at, float value) {
  x[at] = value;
}

/// x[at] = value, where `at` may lie outside of x.
void store(staged_context& context, guarded<float, 1, staged>& x, index_t at, float value) {
  context.on_device(
      [&](const auto& on_x) {
        cuda_detail::launch(
            context, "store", dim3(1), dim3(1), 0, store_kernel, on_x.data(), at, value);
      },
      x.view());
}

}  // namespace

TEST_CASE("operands of tests lie in device memory, aligned as in a model") {
  auto context = testing<staged>::make_context();
  guarded<float, 1, staged> x(dims<1>{5}, uniform(5, 1));
  context.on_device(
      [&](const auto& on_x) {
        CHECK(static_cast<const void*>(on_x.data()) != static_cast<const void*>(x.view().data()));
        CHECK(reinterpret_cast<std::uintptr_t>(on_x.data()) % 256 ==
              reinterpret_cast<std::uintptr_t>(x.view().data()) % 256);
        // CUDA refuses to set memory of the host from the device's side.
        CHECK(cudaMemsetAsync(on_x.data(), 0, 5 * sizeof(float), context.stream()) == cudaSuccess);
      },
      x.view());
  CHECK(within(x.view(), std::vector<double>(5, 0.0), 0.0));
  CHECK(x.intact());
}

TEST_CASE("what a kernel writes beside an operand reaches its guard zones") {
  auto context = testing<staged>::make_context();
  for (const index_t at : {-64, -1, 5, 68}) {
    CAPTURE(at);
    guarded<float, 1, staged> x(dims<1>{5}, uniform(5, 1));
    store(context, x, 2, 7);
    CHECK(x.view()(2) == 7);
    CHECK(x.intact());
    store(context, x, at, 7);
    CHECK(!x.intact());
  }
}

TEST_CASE("an operation that fails half-way shows what it has written") {
  auto context = testing<staged>::make_context();
  guarded<float, 1, staged> x(dims<1>{5}, uniform(5, 1));
  CHECK(rejects("half", [&] {
    context.on_device(
        [&](const auto& on_x) {
          cuda_detail::launch(
              context, "store", dim3(1), dim3(1), 0, store_kernel, on_x.data(), index_t{0}, 3.0f);
          fail("half: no second half");
        },
        x.view());
  }));
  CHECK(!x.untouched());
}

TEST_CASE("a recording takes what the host has changed and gives it back") {
  auto context = testing<staged>::make_context();
  guarded<float, 1, staged> x(dims<1>{2});
  staged_recording recording;
  for (int turn = 0; turn < 4; ++turn) {
    CAPTURE(turn);
    x.set({double(turn), 0});
    recording.replay(context, [&] { store(context, x, 1, 5); });
    CHECK(within(x.view(), {double(turn), 5}, 0.0));
  }
}

TEST_CASE("memory that no test has allocated is refused") {
  auto context = testing<staged>::make_context();
  float x = 0;
  CHECK(rejects("staged", [&] {
    context.on_device([](const auto&) {}, vector_view<float, staged>(&x, dims<1>{1}));
  }));
}

}  // namespace mtp::test::cuda_staged_cases
