// What the benchmarks of the CUDA backend share: random data on the device, time by events, the
// rates that this GPU reaches with plain copies and products, and checks before anything is timed.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "checks.hpp"
#include "mtp/backend/cuda.cuh"
#include "mtp/core/random.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/reduce.hpp"

namespace mtp::bench {

template <class Element>
using vector_of = tensor<Element, dims<1>, cuda>;
template <class Element>
using matrix_of = tensor<Element, dims<2>, cuda>;

/// One context for all benchmarks of a program.
inline cuda_context& context() {
  static cuda_context shared({.workspace_bytes = index_t{1} << 28});
  return shared;
}

/// Numbers in [-1, 1), times `scale`: the same in every run, and never zero for a whole buffer,
/// because zeros take less power and run faster.
template <class S>
__global__ void fill_random_kernel(S* x, index_t count, std::uint64_t stream, float scale) {
  const random_stream random(seed{1}, stream);
  const index_t step = static_cast<index_t>(gridDim.x) * blockDim.x;
  for (index_t i = static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    const double u = random.uniform(static_cast<std::uint64_t>(i));
    x[i] = cuda_detail::narrow<S>(static_cast<float>(2 * u - 1) * scale);
  }
}

template <class S>
void fill_random(S* x, index_t count, std::uint64_t stream, float scale = 1) {
  cuda_detail::launch(context(),
                      "fill_random",
                      dim3(1024),
                      dim3(256),
                      0,
                      fill_random_kernel<S>,
                      x,
                      count,
                      stream,
                      scale);
}

template <class S>
vector_of<S> random_vector(index_t n, std::uint64_t stream, float scale = 1) {
  vector_of<S> made(dims<1>{n});
  fill_random(made.data(), n, stream, scale);
  return made;
}
template <class S>
matrix_of<S> random_matrix(index_t rows, index_t columns, std::uint64_t stream, float scale = 1) {
  matrix_of<S> made(dims<2>{rows, columns});
  fill_random(made.data(), rows * columns, stream, scale);
  return made;
}

/// Copies of one set of operands, enough of them to exceed the L2 cache twice, so that each turn
/// finds its operands in memory.
template <class Set>
class rotation {
 public:
  template <class Make>
  rotation(std::size_t bytes_of_one, const Make& make) {
    constexpr std::size_t twice_the_cache = std::size_t{128} << 20;
    const std::size_t count = std::clamp<std::size_t>(twice_the_cache / bytes_of_one + 1, 2, 64);
    for (std::size_t i = 0; i < count; ++i) {
      sets_.push_back(make(100 * i));
    }
  }
  Set& next() { return sets_[turn_++ % sets_.size()]; }
  Set& first() { return sets_.front(); }

 private:
  std::vector<Set> sets_;
  std::size_t turn_ = 0;
};

/// Two events around work on the stream of context().
class stopwatch {
 public:
  stopwatch() {
    cuda_detail::check_cuda(cudaEventCreate(&begin_), "stopwatch");
    cuda_detail::check_cuda(cudaEventCreate(&end_), "stopwatch");
  }
  ~stopwatch() {
    static_cast<void>(cudaEventDestroy(begin_));
    static_cast<void>(cudaEventDestroy(end_));
  }
  stopwatch(const stopwatch&) = delete;
  stopwatch& operator=(const stopwatch&) = delete;

  /// Seconds that body() takes on the device.
  template <class Body>
  double seconds(const Body& body) {
    cuda_detail::check_cuda(cudaEventRecord(begin_, context().stream()), "stopwatch");
    body();
    cuda_detail::check_cuda(cudaEventRecord(end_, context().stream()), "stopwatch");
    cuda_detail::check_cuda(cudaEventSynchronize(end_), "stopwatch");
    float milliseconds = 0;
    cuda_detail::check_cuda(cudaEventElapsedTime(&milliseconds, begin_, end_), "stopwatch");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

/// The median time of one of `calls` calls in a row, over `rounds` rounds.
template <class Body>
double median_seconds(const Body& body, int calls, int rounds) {
  stopwatch watch;
  body();
  std::vector<double> all;
  for (int round = 0; round < rounds; ++round) {
    all.push_back(watch.seconds([&] {
      for (int call = 0; call < calls; ++call) {
        body();
      }
    }) / calls);
  }
  return median(std::move(all));
}

/// What this GPU reaches, measured once in this process: what shares are shares of.
struct ceilings {
  double copy_bytes;  ///< bytes read and written per second by a device copy of 1 GiB
  double read_bytes;  ///< bytes read per second by the sum of 1 GiB of f32
  double product;     ///< flop per second of a bf16 product of 8192 x 8192 x 8192
};

inline const ceilings& measured_ceilings() {
  static const ceilings measured = [] {
    ceilings made{};
    constexpr index_t count = index_t{1} << 28;  // 1 GiB of f32
    {
      const auto from = random_vector<float>(count, 1);
      vector_of<float> to(dims<1>{count});
      const auto bytes = static_cast<double>(from.count()) * sizeof(float);
      made.copy_bytes =
          2 * bytes /
          median_seconds(
              [&] {
                cuda_detail::check_cuda(cudaMemcpyAsync(to.data(),
                                                        from.data(),
                                                        static_cast<std::size_t>(bytes),
                                                        cudaMemcpyDeviceToDevice,
                                                        context().stream()),
                                        "copy");
              },
              3,
              7);
      tensor<float, dims<0>, cuda> total;
      made.read_bytes =
          bytes / median_seconds([&] { sum(context(), total.view(), from.view()); }, 3, 7);
    }
    constexpr index_t n = 8192;
    const auto x = random_matrix<bf16>(n, n, 2), w = random_matrix<bf16>(n, n, 3);
    matrix_of<bf16> y(dims<2>{n, n});
    const weight_view<const bf16, cuda> weight(w.data(), n, n);
    made.product =
        2.0 * n * n * n /
        median_seconds([&] { linear_forward(context(), y.view(), x.view(), weight); }, 3, 7);
    return made;
  }();
  return measured;
}

/// Times body() by events: `calls` calls make one iteration, so that launches overlap with the work
/// before them.
template <class Body>
void measure(benchmark::State& state, const Body& body, int calls = 10) {
  stopwatch watch;
  body();
  for (auto _ : state) {
    state.SetIterationTime(watch.seconds([&] {
      for (int call = 0; call < calls; ++call) {
        body();
      }
    }) / calls);
  }
}

/// For an operation that is bound by memory: bytes that it has to move, at least.
inline void report_bytes(benchmark::State& state, double bytes) {
  state.counters["bytes"] = bytes;
  state.counters["bytes_per_second"] =
      benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["share_of_copy"] = benchmark::Counter(
      bytes / measured_ceilings().copy_bytes, benchmark::Counter::kIsIterationInvariantRate);
}
inline void report_read_bytes(benchmark::State& state, double bytes) {
  report_bytes(state, bytes);
  state.counters["share_of_read"] = benchmark::Counter(
      bytes / measured_ceilings().read_bytes, benchmark::Counter::kIsIterationInvariantRate);
}

/// For an operation that is bound by the tensor cores.
inline void report_flops(benchmark::State& state, double flops) {
  state.counters["flops"] = flops;
  state.counters["flops_per_second"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["share_of_product"] = benchmark::Counter(
      flops / measured_ceilings().product, benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace mtp::bench
