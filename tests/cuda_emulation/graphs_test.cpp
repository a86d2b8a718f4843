#include <doctest/doctest.h>

#include <vector>

#include "cuda_emulation/fixture.hpp"

namespace mtp::test::cuda_emulation_graphs_cases {

namespace {

__global__ void add_kernel(int value, int* x) {
  *x += value;
}

/// A stream, two events and what is captured, cleaned up at the end.
struct streams {
  streams() {
    REQUIRE(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking) == cudaSuccess);
    REQUIRE(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking) == cudaSuccess);
    REQUIRE(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming) == cudaSuccess);
    REQUIRE(cudaEventCreate(&join) == cudaSuccess);
  }
  ~streams() {
    cudaStreamDestroy(first);
    cudaStreamDestroy(second);
    cudaEventDestroy(fork);
    cudaEventDestroy(join);
  }
  streams(const streams&) = delete;
  streams& operator=(const streams&) = delete;

  cudaStreamCaptureStatus status(cudaStream_t stream) const {
    cudaStreamCaptureStatus status;
    REQUIRE(cudaStreamIsCapturing(stream, &status) == cudaSuccess);
    return status;
  }
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
    REQUIRE(cudaStreamBeginCapture(first, mode) == cudaSuccess);
  }
  cudaError_t end() {
    cudaGraph_t graph = nullptr;
    const cudaError_t error = cudaStreamEndCapture(first, &graph);
    CHECK((graph == nullptr) == (error != cudaSuccess));
    if (graph != nullptr) {
      cudaGraphDestroy(graph);
    }
    CHECK(status(first) == cudaStreamCaptureStatusNone);
    return error;
  }

  cudaStream_t first, second;
  cudaEvent_t fork, join;
};

TEST_CASE("captured work runs when its graph is launched, with the arguments of the capture") {
  const restored_settings restored;
  const emulation::counters before = emulation::counts();
  {
    streams s;
    const device_array<int> x(std::vector<int>{1});
    std::vector<int> host = {100};
    int value = 5;
    s.begin();
    CHECK(s.status(s.first) == cudaStreamCaptureStatusActive);
    CHECK(launch({1, 1, 0, s.first}, add_kernel, value, x.data()) == cudaSuccess);
    value = 7;
    CHECK(launch({1, 1, 0, s.first}, add_kernel, value, x.data()) == cudaSuccess);
    CHECK(cudaMemcpyAsync(host.data(), x.data(), sizeof(int), cudaMemcpyDeviceToHost, s.first) ==
          cudaSuccess);
    CHECK(cudaMemsetAsync(x.data(), 0, sizeof(int), s.first) == cudaSuccess);
    CHECK(emulation::counts().kernels_run == before.kernels_run);
    CHECK(emulation::counts().launches == before.launches + 2);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t instance = nullptr;
    REQUIRE(cudaStreamEndCapture(s.first, &graph) == cudaSuccess);
    CHECK(x.elements()[0] == 1);
    REQUIRE(cudaGraphInstantiate(&instance, graph, 0) == cudaSuccess);
    CHECK(cudaGraphDestroy(graph) == cudaSuccess);
    CHECK(cudaGraphLaunch(instance, s.first) == cudaSuccess);
    CHECK(host[0] == 13);
    CHECK(cudaGraphLaunch(instance, s.first) == cudaSuccess);
    CHECK(host[0] == 12);
    CHECK(emulation::counts().kernels_run == before.kernels_run + 4);
    CHECK(emulation::counts().graph_launches == before.graph_launches + 2);

    // A graph in a graph.
    s.begin();
    CHECK(cudaGraphLaunch(instance, s.first) == cudaSuccess);
    REQUIRE(cudaStreamEndCapture(s.first, &graph) == cudaSuccess);
    CHECK(emulation::counts().kernels_run == before.kernels_run + 4);
    cudaGraphExec_t outer = nullptr;
    REQUIRE(cudaGraphInstantiate(&outer, graph) == cudaSuccess);
    CHECK(cudaGraphLaunch(outer, nullptr) == cudaSuccess);
    CHECK(emulation::counts().kernels_run == before.kernels_run + 6);
    cudaGraphDestroy(graph);
    cudaGraphExecDestroy(outer);
    cudaGraphExecDestroy(instance);
  }
  CHECK(emulation::counts().live_objects == before.live_objects);
}

TEST_CASE("what a capture cannot hold is refused and ends it") {
  const restored_settings restored;
  streams s;
  int* x = nullptr;
  const device_array<int> array(1);
  const auto refused = [&](auto call) {
    s.begin();
    CHECK(call() == cudaErrorStreamCaptureUnsupported);
    CHECK(s.status(s.first) == cudaStreamCaptureStatusInvalidated);
    CHECK(launch({1, 1, 0, s.first}, add_kernel, 1, array.data()) ==
          cudaErrorStreamCaptureInvalidated);
    CHECK(s.end() == cudaErrorStreamCaptureInvalidated);
  };
  refused([&] { return cudaMalloc(&x, 4); });
  refused([&] { return cudaFree(array.data()); });
  refused([&] { return cudaHostAlloc(&x, 4, 0); });
  refused([&] { return cudaStreamSynchronize(s.first); });
  refused([&] { return cudaDeviceSynchronize(); });
  int host = 0;
  refused([&] { return cudaMemcpy(&host, array.data(), 4, cudaMemcpyDeviceToHost); });

  s.begin(cudaStreamCaptureModeRelaxed);
  CHECK(cudaMalloc(&x, 4) == cudaSuccess);
  CHECK(cudaFree(x) == cudaSuccess);
  CHECK(s.end() == cudaSuccess);

  // Other streams go on as always.
  s.begin();
  CHECK(launch({1, 1, 0, s.second}, add_kernel, 1, array.data()) == cudaSuccess);
  CHECK(cudaStreamSynchronize(s.second) == cudaSuccess);
  CHECK(launch({1, 1}, add_kernel, 1, array.data()) == cudaSuccess);
  CHECK(s.end() == cudaSuccess);

  cudaStream_t blocking = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&blocking, cudaStreamDefault) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeGlobal) == cudaSuccess);
  CHECK(launch({1, 1}, add_kernel, 1, array.data()) == cudaErrorStreamCaptureImplicit);
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamEndCapture(blocking, &graph) == cudaErrorStreamCaptureInvalidated);
  cudaStreamDestroy(blocking);

  CHECK(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal) ==
        cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamEndCapture(s.first, &graph) == cudaErrorIllegalState);
  s.begin();
  CHECK(cudaStreamBeginCapture(s.first, cudaStreamCaptureModeGlobal) == cudaErrorIllegalState);
  CHECK(s.end() == cudaSuccess);
}

TEST_CASE("events draw other streams into a capture, which must be joined again") {
  const restored_settings restored;
  streams s;
  const device_array<int> x(std::vector<int>{0});
  const auto fork = [&] {
    s.begin();
    CHECK(cudaEventRecord(s.fork, s.first) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(s.second, s.fork) == cudaSuccess);
    CHECK(s.status(s.second) == cudaStreamCaptureStatusActive);
    CHECK(launch({1, 1, 0, s.second}, add_kernel, 3, x.data()) == cudaSuccess);
  };

  fork();
  CHECK(s.end() == cudaErrorStreamCaptureUnjoined);

  fork();
  CHECK(cudaEventRecord(s.join, s.second) == cudaSuccess);
  CHECK(cudaEventSynchronize(s.join) == cudaErrorCapturedEvent);
  CHECK(cudaEventQuery(s.join) == cudaErrorCapturedEvent);
  CHECK(cudaStreamWaitEvent(s.first, s.join) == cudaSuccess);
  CHECK(s.end() == cudaSuccess);
  CHECK(s.status(s.second) == cudaStreamCaptureStatusNone);

  // Joined too early.
  fork();
  cudaEventRecord(s.join, s.second);
  launch({1, 1, 0, s.second}, add_kernel, 3, x.data());
  CHECK(cudaStreamWaitEvent(s.first, s.join) == cudaSuccess);
  CHECK(s.end() == cudaErrorStreamCaptureUnjoined);

  // An event from outside.
  cudaEventRecord(s.fork, s.second);
  s.begin();
  CHECK(cudaStreamWaitEvent(s.first, s.fork) == cudaErrorStreamCaptureIsolation);
  CHECK(s.end() == cudaErrorStreamCaptureInvalidated);
  CHECK(x.elements()[0] == 0);
}

TEST_CASE("events measure time") {
  streams s;
  float milliseconds = -1;
  cudaEvent_t begin = nullptr;
  REQUIRE(cudaEventCreate(&begin) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&milliseconds, begin, s.join) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventRecord(begin, s.first) == cudaSuccess);
  CHECK(cudaEventRecord(s.join, s.first) == cudaSuccess);
  CHECK(cudaEventRecord(s.fork, s.first) == cudaSuccess);
  CHECK(cudaEventSynchronize(s.join) == cudaSuccess);
  CHECK(cudaEventQuery(s.join) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&milliseconds, begin, s.join) == cudaSuccess);
  CHECK(milliseconds >= 0);
  CHECK(cudaEventElapsedTime(&milliseconds, begin, s.fork) == cudaErrorInvalidResourceHandle);
  cudaEventDestroy(begin);
}

TEST_CASE("a graph that uses memory after it was freed is found") {
  streams s;
  int *x = nullptr, host = 0;
  REQUIRE(cudaMalloc(&x, sizeof(int)) == cudaSuccess);
  s.begin();
  cudaMemcpyAsync(&host, x, sizeof(int), cudaMemcpyDeviceToHost, s.first);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t instance = nullptr;
  REQUIRE(cudaStreamEndCapture(s.first, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&instance, graph) == cudaSuccess);
  CHECK(cudaGraphLaunch(instance, s.first) == cudaSuccess);
  cudaFree(x);
  CHECK_THROWS_AS(cudaGraphLaunch(instance, s.first), emulation::fault);
  cudaGraphDestroy(graph);
  cudaGraphExecDestroy(instance);
}

}  // namespace

}  // namespace mtp::test::cuda_emulation_graphs_cases
