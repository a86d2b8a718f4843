#include "peak.hpp"

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
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

/// The sum of `count` floats, a multiple of chains * lanes.
float sum_of(const float* from, index_t count) {
  packet sum[chains];
  for (packet& chain : sum) {
    chain = Eigen::internal::pset1<packet>(0.0f);
  }
  for (index_t i = 0; i < count; i += chains * lanes) {
    for (int c = 0; c < chains; ++c) {
      sum[c] = Eigen::internal::padd(sum[c], Eigen::internal::ploadu<packet>(from + i + c * lanes));
    }
  }
  for (int c = 1; c < chains; ++c) {
    sum[0] = Eigen::internal::padd(sum[0], sum[c]);
  }
  return Eigen::internal::predux(sum[0]);
}

/// The shortest time of `tries` calls of body(thread), one call for each of `threads` at once.
template <class Body>
double best_seconds(int tries, index_t threads, const Body& body) {
  double best = 1e300;
  for (int i = 0; i < tries; ++i) {
    const auto start = std::chrono::steady_clock::now();
    context().parallel(threads, [&](index_t task, int) { body(task); });
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    best = (std::min)(best, spent.count());
  }
  return best;
}

/// All memory that bandwidth is measured in; smaller arrays are the beginning of it.
vector_of& memory() {
  static vector_of floats =
      random_tensor(0, static_cast<index_t>(bytes_beyond_caches() / sizeof(float)));
  return floats;
}

/// Bytes per second of body(x, count), which works on `arrays` arrays of `count` floats, one behind
/// the other from x. Each of `threads` has its own; all together have about `bytes`.
template <class Body>
double rate(int tries, index_t threads, index_t arrays, std::uint64_t bytes, const Body& body) {
  constexpr index_t unit = chains * lanes;
  const auto floats = static_cast<index_t>(bytes / sizeof(float));
  const index_t part = (std::max)(floats / arrays / threads / unit, index_t{1}) * unit;
  const auto moved = static_cast<double>(part * arrays * threads) * sizeof(float);
  // Long enough that handing out the work does not count, short enough to fit between
  // interruptions.
  const auto repetitions = static_cast<index_t>((std::max)(1.0, 32e6 / moved));
  const double seconds = best_seconds(tries, threads, [&](index_t thread) {
    float* const begin = memory().data() + thread * arrays * part;
    for (index_t i = 0; i < repetitions; ++i) {
      body(begin, part);
      benchmark::ClobberMemory();
    }
  });
  return moved * static_cast<double>(repetitions) / seconds;
}

void read(const float* x, index_t count) {
  benchmark::DoNotOptimize(sum_of(x, count));
}
void copy(float* x, index_t count) {
  std::memcpy(x + count, x, static_cast<std::size_t>(count) * sizeof(float));
}
void triad(float* x, index_t count) {
  const float *const a = x, *const b = x + count;
  float* const c = x + 2 * count;
  for (index_t i = 0; i < count; ++i) {
    c[i] = 0.5f * a[i] + 0.5f * b[i];
  }
}

}  // namespace

double multiply_add_peak() {
  static double best = 0;
  const index_t threads = context().threads();
  const std::vector<float> factors(static_cast<std::size_t>(threads), 0.5f);
  const double seconds = best_seconds(best == 0 ? 100 : 2, threads, [&](index_t thread) {
    benchmark::DoNotOptimize(multiply_adds(factors[static_cast<std::size_t>(thread)]));
  });
  const double operations =
      static_cast<double>(threads) * 2.0 * chains * lanes * static_cast<double>(chain_length);
  best = (std::max)(best, operations / seconds);
  return best;
}

double bandwidth::best() const {
  return (std::max)({read, copy, triad});
}

bandwidth bandwidth_peak(double bytes) {
  static std::map<std::uint64_t, bandwidth> measured;
  constexpr std::uint64_t smallest = 1 << 14;
  const auto wanted = static_cast<std::uint64_t>(bytes);
  // Rounded down, so that no operation has more of its operands in a cache than its peak had.
  const std::uint64_t size =
      std::bit_floor(std::clamp<std::uint64_t>(wanted, smallest, bytes_beyond_caches()));
  bandwidth& best = measured[size];
  const int tries = best.read == 0 ? 5 : 1;
  const auto keep = [](double& best_rate, double now) { best_rate = (std::max)(best_rate, now); };
  for (const index_t threads : {index_t{1}, index_t{context().threads()}}) {
    keep(best.read, rate(tries, threads, 1, size, read));
    keep(best.copy, rate(tries, threads, 2, size, copy));
    keep(best.triad, rate(tries, threads, 3, size, triad));
  }
  return best;
}

std::size_t bytes_beyond_caches() {
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return std::clamp<std::size_t>(4 * static_cast<std::size_t>((std::max)(cache, 0L)),
                                 std::size_t{256} << 20,
                                 std::size_t{768} << 20);
}

}  // namespace mtp::bench
