// What this GPU reaches with plain copies, reads and products: what shares are shares of.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "checks.hpp"
#include "mtp/core/error.hpp"
#include "mtp/ops/linear.hpp"
#include "operands.cuh"

namespace mtp::bench {

/// Two events around work on the stream of a context.
class stopwatch {
 public:
  explicit stopwatch(cuda_context& context = bench::context()) : context_(context) {
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
    cuda_detail::check_cuda(cudaEventRecord(begin_, context_.stream()), "stopwatch");
    body();
    cuda_detail::check_cuda(cudaEventRecord(end_, context_.stream()), "stopwatch");
    cuda_detail::check_cuda(cudaEventSynchronize(end_), "stopwatch");
    float milliseconds = 0;
    cuda_detail::check_cuda(cudaEventElapsedTime(&milliseconds, begin_, end_), "stopwatch");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cuda_context& context_;
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

/// Reads `packs` packs of 16 bytes: Ahead of them are on their way from each thread at a time. What
/// is written is there so that no compiler leaves a load out.
template <int Ahead>
__global__ void __launch_bounds__(512)
    read_kernel(const uint4* x, index_t packs, unsigned* result) {
  const index_t step = static_cast<index_t>(gridDim.x) * blockDim.x;
  unsigned bits = 0;
  for (index_t i = static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs;
       i += Ahead * step) {
    uint4 values[Ahead] = {};
#pragma unroll
    for (int j = 0; j < Ahead; ++j) {
      const index_t at = i + j * step;
      values[j] = cuda_detail::load_streaming_16(x + (at < packs ? at : 0), at < packs);
    }
#pragma unroll
    for (int j = 0; j < Ahead; ++j) {
      bits ^= values[j].x ^ values[j].y ^ values[j].z ^ values[j].w;
    }
  }
  if (bits == 0x2545f491) {
    *result = bits;
  }
}

/// Rates of one GPU.
struct ceilings {
  double copy_bytes;  ///< bytes read and written per second by a device copy of 1 GiB
  double read_bytes;  ///< bytes read per second from 1 GiB
  double product;     ///< flop per second of a bf16 product of 8192 x 8192 x 8192
};

/// Takes about a second.
inline ceilings measure_ceilings() {
  ceilings made{};
  constexpr index_t count = index_t{1} << 28;  // 1 GiB of f32
  {
    const auto from = random_vector<float>(count, 1);  // [count]
    vector_of<float> to(dims<1>{count});               // [count]
    const auto bytes = static_cast<double>(from.count()) * sizeof(float);
    made.copy_bytes = 2 * bytes /
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
    const dim3 blocks(static_cast<unsigned>(4 * context().multiprocessors()));
    made.read_bytes = bytes / median_seconds(
                                  [&] {
                                    cuda_detail::launch(context(),
                                                        "read",
                                                        blocks,
                                                        dim3(512),
                                                        0,
                                                        read_kernel<4>,
                                                        reinterpret_cast<const uint4*>(from.data()),
                                                        count / 4,
                                                        reinterpret_cast<unsigned*>(to.data()));
                                  },
                                  3,
                                  7);
  }
  constexpr index_t n = 8192;
  const auto x = random_matrix<bf16>(n, n, 2), w = random_matrix<bf16>(n, n, 3);  // [n, n]
  matrix_of<bf16> y(dims<2>{n, n});                                               // [n, n]
  const weight_view<const bf16, cuda> weight(w.data(), n, n);
  made.product =
      2.0 * n * n * n /
      median_seconds([&] { linear_forward(context(), y.view(), x.view(), weight); }, 3, 7);
  return made;
}

/// Those that MTP_BENCH_CEILINGS=COPY,READ,PRODUCT gives, in bytes, bytes and flop per second, so
/// that a row of programs measures them once; else measured once in this process. Throws mtp::error
/// for a variable that does not hold three positive numbers.
inline const ceilings& known_ceilings() {
  static const ceilings known = [] {
    const char* const given = std::getenv("MTP_BENCH_CEILINGS");
    if (given == nullptr) {
      return measure_ceilings();
    }
    ceilings read{};
    char rest = 0;
    check(std::sscanf(
              given, "%lf,%lf,%lf%c", &read.copy_bytes, &read.read_bytes, &read.product, &rest) ==
                  3 &&
              read.copy_bytes > 0 && read.read_bytes > 0 && read.product > 0,
          "MTP_BENCH_CEILINGS: expected COPY,READ,PRODUCT, three positive rates, got ",
          given);
    return read;
  }();
  return known;
}

}  // namespace mtp::bench
