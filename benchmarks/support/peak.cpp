#include "peak.hpp"

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <Eigen/Core>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "bench.hpp"

namespace mtp::bench {
namespace {

using packet = Eigen::internal::packet_traits<float>::type;
constexpr int lanes = sizeof(packet) / sizeof(float);
constexpr int chains = 12;  // latency 4 times two units, and all of it in 16 registers
constexpr index_t chain_length = 1 << 19;  // short: a try should fit between interruptions

/// Floating-point operations: 2 * chains * lanes * chain_length.
float multiply_adds(float factor) {
  const packet m = Eigen::internal::pset1<packet>(factor);
  packet x[chains];
  for (packet& chain : x) {
    chain = Eigen::internal::pset1<packet>(1 - factor);
  }
  for (index_t i = 0; i < chain_length; ++i) {
    for (packet& chain : x) {
      chain = Eigen::internal::pmadd(chain, m, m);
    }
  }
  packet sum = x[0];
  for (int c = 1; c < chains; ++c) {
    sum = Eigen::internal::padd(sum, x[c]);
  }
  return Eigen::internal::predux(sum);
}

/// The shortest time of `tries` calls of body(thread), one call for each thread at once.
template <class Body>
double best_seconds(int tries, const Body& body) {
  double best = 1e300;
  for (int i = 0; i < tries; ++i) {
    const auto start = std::chrono::steady_clock::now();
    context().parallel(context().threads(), [&](index_t task, int) { body(task); });
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    best = (std::min)(best, spent.count());
  }
  return best;
}

/// Elements of each of three arrays that together exceed the last-level cache several times.
index_t array_elements() {
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  const index_t bytes =
      std::clamp<index_t>(4 * (cache > 0 ? cache : 0), index_t{192} << 20, index_t{768} << 20);
  return round_up(bytes / 3 / static_cast<index_t>(sizeof(float)), 1024);
}

}  // namespace

const peaks& measured_peaks() {
  static const peaks measured = [] {
    const auto threads = static_cast<double>(context().threads());
    std::vector<float> factors(static_cast<std::size_t>(context().threads()), 0.5f);
    peaks made{};
    made.multiply_add =
        threads * 2.0 * chains * lanes * chain_length / best_seconds(100, [&](index_t thread) {
          benchmark::DoNotOptimize(multiply_adds(factors[static_cast<std::size_t>(thread)]));
        });

    const index_t count = array_elements();
    vector_of a(dims<1>{count}), b(dims<1>{count}), c(dims<1>{count});
    made.memory_bytes = 3 * static_cast<std::size_t>(count) * sizeof(float);
    const index_t part = ceil_div(count, context().threads());
    const auto each_part = [&](auto&& body) {
      return [&, body](index_t thread) {
        const index_t begin = thread * part;
        body(begin, (std::min)(begin + part, count));
      };
    };
    const auto bytes = static_cast<double>(count) * sizeof(float);
    made.copy_bytes = 2 * bytes / best_seconds(4, each_part([&](index_t begin, index_t end) {
                                                 std::memcpy(a.data() + begin,
                                                             b.data() + begin,
                                                             static_cast<std::size_t>(end - begin) *
                                                                 sizeof(float));
                                               }));
    made.triad_bytes = 3 * bytes / best_seconds(4, each_part([&](index_t begin, index_t end) {
                                                  float* const to = a.data();
                                                  const float *const x = b.data(), *const y =
                                                                                       c.data();
                                                  const float s = factors[0];
                                                  for (index_t i = begin; i < end; ++i) {
                                                    to[i] = x[i] + s * y[i];
                                                  }
                                                  benchmark::ClobberMemory();
                                                }));
    return made;
  }();
  return measured;
}

}  // namespace mtp::bench
