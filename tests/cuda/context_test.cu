// The context of the CUDA backend: what it says when there is no GPU to be had, and that nothing is
// lost when something fails.
#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "support/cuda_cases.hpp"
// The backend comes first.
#include "mtp/core/tensor.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"

namespace mtp::test::cuda_context_cases {
namespace {

using cuda_detail::fault_record;

__global__ void report_kernel(fault_record* record, index_t value) {
  cuda_detail::report_fault(record, cuda_detail::fault_token, threadIdx.x, value, 7);
}

inline constexpr int reports = 20000;

/// Faults whose parts tell which of them belong together.
__global__ void report_places_kernel(fault_record* record, int times) {
  const index_t thread = static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (int i = 1; i <= times; ++i) {
    const index_t place = thread * times + i;
    cuda_detail::report_fault(record,
                              place % 2 == 0 ? cuda_detail::fault_token : cuda_detail::fault_target,
                              place,
                              2 * place,
                              3 * place);
  }
}

/// Whether a message tells of one call of report_places_kernel.
bool is_whole(const std::string& message) {
  const std::size_t at = message.find(" in row ");
  if (at == std::string::npos) {
    return false;
  }
  const long place = std::stol(message.substr(at + 8));
  const auto text = [](long number) { return std::to_string(number); };
  return place > 0 && message.starts_with(
                          (place % 2 == 0 ? "embedding: token " : "linear_cross_entropy: target ") +
                          text(2 * place) + " in row " + text(place) + " does not lie in [0, " +
                          text(3 * place) + ")");
}

void report(cuda_context& context, index_t value) {
  cuda_detail::launch(
      context, "report", dim3(1), dim3(1), 0, report_kernel, context.faults(), value);
}

/// The message of what call() throws; empty if it throws nothing.
template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const mtp::error& problem) {
    return problem.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a context knows its device and starts without work") {
  cuda_context context({.workspace_bytes = 1000});
  CHECK(!context.device_name().empty());
  CHECK(context.multiprocessors() > 0);
  CHECK(context.workspace().capacity() == 1000);
  context.synchronize();
  context.reserve(5000);
  CHECK(context.workspace().capacity() == 5000);
  CHECK(context.workspace_generation() == 1);
  context.reserve(10);
  CHECK(context.workspace().capacity() == 5000);
  CHECK(context.workspace_generation() == 1);
}

TEST_CASE("wrong options of a context are refused") {
  CHECK(rejects("cuda_context", [] { cuda_context context({.device = -1}); }));
  CHECK(rejects("cuda_context", [] { cuda_context context({.device = 4711}); }));
  CHECK(rejects("cuda_context", [] { cuda_context context({.workspace_bytes = -1}); }));
  CHECK(rejects("cuda_context", [] { cuda_context context({.product_bytes = -1}); }));
}

TEST_CASE("what a kernel finds wrong in its data is thrown once, at the next synchronization") {
  cuda_context context;
  report(context, 9);
  report(context, 11);  // the first one counts
  CHECK(contains(message_of([&] { context.synchronize(); }),
                 "token 9 in row 0 does not lie in [0, 7)"));
  context.synchronize();
  report(context, -3);
  std::vector<float> host(4);
  tensor<float, dims<1>, cuda> x(dims<1>{4});
  CHECK(contains(
      message_of([&] { backend_traits<cuda>::download(context, host.data(), x.data(), 4); }),
      "token -3"));
  context.synchronize();
}

TEST_CASE("of many faults at once, one is thrown whole") {
  cuda_context context;
  for (int again = 0; again < 3; ++again) {
    cuda_detail::launch(
        context, "report", dim3(3), dim3(64), 0, report_places_kernel, context.faults(), 1);
    const std::string message = message_of([&] { context.synchronize(); });
    CAPTURE(message);
    CHECK(is_whole(message));
    context.synchronize();
  }
}

TEST_CASE("the host may look for faults while kernels report them") {
  cuda_context context;
  // Another thread, because where kernels are emulated they run in the call that launches them.
  std::atomic<bool> running = true;
  std::thread launching([&] {
    const std::string message = message_of([&] {
      cuda_detail::launch(
          context, "report", dim3(1), dim3(1), 0, report_places_kernel, context.faults(), reports);
      cuda_detail::check_cuda(cudaStreamSynchronize(context.stream()), "report");
    });
    CHECK(message.empty());
    running = false;
  });
  index_t found = 0, halves = 0;
  for (bool more = true; more;) {
    more = running;
    const std::string message = message_of([&] { context.raise_faults(); });
    found += message.empty() ? 0 : 1;
    halves += message.empty() || is_whole(message) ? 0 : 1;
  }
  launching.join();
  CHECK(found > 0);
  CHECK(halves == 0);
  context.synchronize();
}

TEST_CASE("tensors start as zeros, and their elements go to the device and back") {
  const std::vector<float> numbers{1, 2, 3, 4, 5, 6};
  const tensor<float, dims<2>, cuda> there(dims<2>{2, 3}, numbers);
  CHECK(there.to_host() == numbers);
  CHECK(there.to<cuda>().to_host() == numbers);
  CHECK(tensor<float, dims<1>, cuda>(dims<1>{3}).to_host() == std::vector<float>(3));
}

TEST_CASE("a launch that CUDA does not take throws and leaves the context usable") {
  cuda_context context;
  const std::string message = message_of([&] {
    cuda_detail::launch(
        context, "some_operation", dim3(1), dim3(5000), 0, report_kernel, context.faults(), 1);
  });
  CHECK(contains(message, "some_operation: CUDA reports cudaErrorInvalid"));
  context.synchronize();
  cuda_detail::launch(context, "nothing", dim3(0), dim3(32), 0, report_kernel, context.faults(), 1);
  context.synchronize();
}

#if defined(MTP_CUDA_EMULATION)

namespace {

/// Takes back what a test has done to the emulated device.
struct restored {
  ~restored() { emulation::reset(); }
};

}  // namespace

TEST_CASE("without a device there is a clear error") {
  const restored after;
  emulation::set_device_state(emulation::device_state::none);
  CHECK(
      contains(message_of([] { cuda_context context; }), "cuda_context: there is no CUDA device"));
  emulation::set_device_state(emulation::device_state::driver_too_old);
  CHECK(contains(message_of([] { cuda_context context; }),
                 "cuda_context: the driver is missing or too old for CUDA 13.0"));
  emulation::set_device_state(emulation::device_state::available);
  emulation::settings().compute_major = 7;
  emulation::settings().compute_minor = 5;
  CHECK(contains(message_of([] { cuda_context context; }),
                 "compute capability 8.0 or newer, got 7.5"));
  emulation::settings().compute_major = 12;
  emulation::settings().compute_minor = 0;
  emulation::settings().has_code = false;
  const std::string message = message_of([] { cuda_context context; });
  CAPTURE(message);
  CHECK(contains(message, "cuda_context: this program holds no code for a device of compute"));
  CHECK(contains(message, "12.0"));
  CHECK(contains(message, "CMAKE_CUDA_ARCHITECTURES"));
  emulation::settings().has_code = true;
  cuda_context context;
  context.synchronize();
}

TEST_CASE("a launch that wants more shared memory than there is names what it wants") {
  const restored after;
  emulation::settings().block_shared_bytes = std::size_t{99} << 10;
  cuda_context context;
  CHECK(context.block_shared_bytes() == 101376);
  const auto launching = [&](std::size_t bytes) {
    return message_of([&] {
      cuda_detail::launch(
          context, "some_operation", dim3(1), dim3(1), bytes, report_kernel, context.faults(), 1);
    });
  };
  CHECK(launching(101376).empty());
  CHECK(launching(101377) ==
        "some_operation: a block needs 101377 bytes of shared memory, and this device gives it at "
        "most 101376");
  CHECK_THROWS_AS(context.synchronize(), mtp::error);  // what the first launch reported
}

TEST_CASE("running out of memory is told and leaves everything as it was") {
  const restored after;
  cuda_context context({.workspace_bytes = 1000});
  const long live = emulation::counts().live_allocations;
  emulation::limit_memory(emulation::counts().live_bytes + 500);
  const std::string message = message_of([&] { buffer<float, cuda> large(1000); });
  CHECK(contains(message, "cuda: out of memory: 4000 bytes requested"));
  CHECK(contains(message_of([&] { context.reserve(100000); }), "out of memory"));
  CHECK(context.workspace().capacity() == 1000);
  CHECK(emulation::counts().live_allocations == live);
  emulation::limit_memory(~std::size_t{0});
  context.reserve(100000);
  CHECK(context.workspace().capacity() == 100000);
}

TEST_CASE("a context that cannot be made leaves nothing behind") {
  const restored after;
  const auto before = emulation::counts();
  for (const char* call : {"cudaStreamCreateWithFlags",
                           "cublasLtCreate",
                           "cudaMalloc",
                           "cudaHostAlloc",
                           "cudaMemset",
                           "cudaGetDeviceProperties"}) {
    for (const int others : {0, 1}) {
      CAPTURE(call);
      emulation::reset();
      emulation::fail_next(call, 1, others);
      const std::string message = message_of([] { cuda_context context; });
      if (others == 0) {
        CHECK(contains(message, "cuda"));
      }
      CHECK(emulation::counts().live_allocations == before.live_allocations);
      CHECK(emulation::counts().live_objects == before.live_objects);
    }
  }
}

TEST_CASE("after a kernel has crashed every call throws, and the end is quiet") {
  const restored after;
  const long live = emulation::counts().live_allocations;
  {
    cuda_context context;
    buffer<float, cuda> x(100);
    emulation::set_sticky_error(cudaErrorIllegalAddress);
    for (int i = 0; i < 2; ++i) {
      CHECK(contains(message_of([&] { context.synchronize(); }), "cudaErrorIllegalAddress"));
      CHECK(contains(message_of([&] { report(context, 1); }), "report: CUDA reports"));
      CHECK(contains(message_of([&] { buffer<float, cuda> more(10); }), "cudaErrorIllegalAddress"));
      CHECK(contains(message_of([&] { cuda_context another; }), "cuda_context"));
    }
  }
  emulation::reset();
  CHECK(emulation::counts().live_allocations >= live);
}

#endif

}  // namespace mtp::test::cuda_context_cases
