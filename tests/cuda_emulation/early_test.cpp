// Kernels that begin before the one in front of them has ended: what they see, and what they must
// not do.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "cuda_emulation/fixture.hpp"

namespace mtp::test::cuda_emulation_early_cases {

namespace {

using cuda_detail::allow_next_kernel;
using cuda_detail::wait_for_previous_kernels;

template <class... Parameters, class... Arguments>
cudaError_t launch_early(const launch_shape& shape,
                         void (*kernel)(Parameters...),
                         Arguments... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.stream = shape.stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

__global__ void set_kernel(int* x, int value) {
  *x = value;
}

/// y[b] = x before the wait, y[blocks + b] = x behind it; block b by 40 threads.
__global__ void look_kernel(const int* x, int* y) {
  const int past = *x;
  allow_next_kernel();
  wait_for_previous_kernels();
  if (threadIdx.x == 0) {
    y[blockIdx.x] = past;
    y[gridDim.x + blockIdx.x] = *x;
  }
}

struct seen {
  int past, present;
  friend bool operator==(const seen&, const seen&) = default;
};

/// What look_kernel sees in all three blocks behind two others; `between` comes in front of it.
template <class Between>
seen look(bool early, const Between& between) {
  const device_array<int> x(std::vector<int>{1}), y(6);
  launch({1, 1}, set_kernel, x.data(), 2);
  launch({1, 1}, set_kernel, x.data(), 3);
  between(x.data());
  CHECK((early ? launch_early({3, 40}, look_kernel, x.data(), y.data())
               : launch({3, 40}, look_kernel, x.data(), y.data())) == cudaSuccess);
  const auto values = y.elements();
  CHECK(values[0] == values[1]);
  CHECK(values[0] == values[2]);
  CHECK(values[3] == values[5]);
  return {values[0], values[3]};
}

template <class Kernel, class... Arguments>
std::string fault_of(Kernel kernel, Arguments... arguments) {
  const device_array<int> x(std::vector<int>{1});
  launch({1, 1}, set_kernel, x.data(), 2);
  try {
    launch_early({2, 40}, kernel, arguments...);
  } catch (const emulation::fault& fault) {
    return fault.what();
  }
  return {};
}

__global__ void hasty_write_kernel(int* x) {
  if (threadIdx.x == 7) {
    *x = 5;
  }
  wait_for_previous_kernels();
}
__global__ void never_waiting_kernel() {}
__global__ void sometimes_waiting_kernel() {
  if (threadIdx.x > 0) {
    wait_for_previous_kernels();
  }
}
__global__ void late_set_kernel(int* x, int value) {
  allow_next_kernel();
  wait_for_previous_kernels();
  if (threadIdx.x == 0) {
    *x = value;
  }
}

const auto with_thread_sanitizer = doctest::skip(emulation::thread_sanitized);

}  // namespace

TEST_CASE("an early kernel sees the past until it has waited" * with_thread_sanitizer) {
  in_every_order([] {
    emulation::settings().early_kernels_see_the_past = true;
    const auto nothing = [](int*) {};
    CHECK(look(true, nothing) == seen{2, 3});
    CHECK(look(false, nothing) == seen{3, 3});
    // Kernels that began early may still run, and so may the one in order that they follow.
    const auto two_early = [](int* x) {
      launch_early({1, 40}, late_set_kernel, x, 4);
      launch_early({1, 40}, late_set_kernel, x, 5);
    };
    CHECK(look(true, two_early) == seen{2, 5});
    CHECK(look(false, two_early) == seen{5, 5});
    CHECK(look(true, [](int*) { cudaDeviceSynchronize(); }) == seen{3, 3});
    CHECK(look(true, [](int*) {
            const device_array<int> other(1);
            cudaMemsetAsync(other.data(), 0, sizeof(int), nullptr);
          }) == seen{3, 3});
    emulation::settings().early_kernels_see_the_past = false;
    CHECK(look(true, nothing) == seen{3, 3});
  });
}

TEST_CASE("an early kernel that writes or ends before it waits is a fault" *
          with_thread_sanitizer) {
  in_every_order([] {
    emulation::settings().early_kernels_see_the_past = true;
    const device_array<int> x(std::vector<int>{1});
    CHECK(fault_of(hasty_write_kernel, x.data()).find("wrote before it waited") !=
          std::string::npos);
    CHECK(fault_of(never_waiting_kernel).find("ended without waiting") != std::string::npos);
    CHECK(fault_of(sometimes_waiting_kernel).find("ended without waiting") != std::string::npos);
    // In order, nobody has to wait.
    CHECK(launch({2, 40}, never_waiting_kernel) == cudaSuccess);
    CHECK(launch({1, 40}, late_set_kernel, x.data(), 3) == cudaSuccess);
  });
}

TEST_CASE("launches with other attributes are refused") {
  cudaLaunchAttribute attribute{};
  attribute.id = static_cast<cudaLaunchAttributeID>(4);
  cudaLaunchConfig_t config{};
  config.gridDim = config.blockDim = dim3(1);
  config.attrs = &attribute;
  config.numAttrs = 1;
  CHECK(cudaLaunchKernelEx(&config, never_waiting_kernel) == cudaErrorNotSupported);
  static_cast<void>(cudaGetLastError());
}

}  // namespace mtp::test::cuda_emulation_early_cases
