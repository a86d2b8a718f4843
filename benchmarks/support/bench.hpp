// What the benchmarks of the CPU backend share: one context, random operands, checks at a few
// elements, and rates as shares of the peaks of the same run.
#pragma once

#include <benchmark/benchmark.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "checks.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/core/random.hpp"
#include "mtp/core/tensor.hpp"
#include "peak.hpp"

namespace mtp::bench {

using vector_of = tensor<float, dims<1>, cpu>;
using matrix_of = tensor<float, dims<2>, cpu>;
using heads_of = tensor<float, dims<3>, cpu>;

/// One context for all benchmarks of a program, with as many threads as the machine has.
inline cpu_context& context() {
  static cpu_context shared({.workspace_bytes = index_t{1} << 28});
  return shared;
}

/// Numbers in [-scale, scale), the same in every run.
inline void fill_random(float* x, index_t count, std::uint64_t stream, double scale = 1) {
  const random_stream random(seed{1}, stream);
  for (index_t i = 0; i < count; ++i) {
    x[i] = static_cast<float>(scale * (2 * random.uniform(static_cast<std::uint64_t>(i)) - 1));
  }
}

template <class... Sizes>
auto random_tensor(std::uint64_t stream, Sizes... sizes) {
  tensor<float, dims<static_cast<int>(sizeof...(Sizes))>, cpu> made(
      dims<static_cast<int>(sizeof...(Sizes))>{sizes...});
  fill_random(made.data(), made.count(), stream);
  return made;
}

/// A weight and its memory. W [N, K]
struct weight_of {
  buffer<float, cpu> elements;
  index_t N, K;

  weight_of(index_t outputs, index_t inputs)
      : elements(backend_traits<cpu>::weight_storage<float>(outputs, inputs)),
        N(outputs),
        K(inputs) {}
  weight_of(std::uint64_t stream, index_t outputs, index_t inputs) : weight_of(outputs, inputs) {
    const random_stream random(seed{1}, stream);
    const auto w = view();
    for (index_t n = 0; n < N; ++n) {
      for (index_t k = 0; k < K; ++k) {
        w(n, k) = static_cast<float>(2 * random.uniform(static_cast<std::uint64_t>(n * K + k)) - 1);
      }
    }
  }
  weight_view<float, cpu> view() { return {elements.data(), N, K}; }
};

/// Tokens below `vocabulary`, the same in every run.
inline tensor<token_t, dims<1>, cpu> random_tokens(std::uint64_t stream,
                                                   index_t count,
                                                   index_t vocabulary) {
  const random_stream random(seed{1}, stream);
  tensor<token_t, dims<1>, cpu> made(dims<1>{count});
  for (index_t i = 0; i < count; ++i) {
    made.data()[i] = static_cast<token_t>(
        random.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(vocabulary)));
  }
  return made;
}

/// Compares actual(i) with expected(i) at the ends and in between of [0, count). The bound is
/// `relative` times 1 + |expected|.
template <class Actual, class Expected>
bool near_at_samples(benchmark::State& state,
                     const char* what,
                     index_t count,
                     const Actual& actual,
                     const Expected& expected,
                     double relative = 1e-5) {
  for (const index_t i : {index_t{0}, count / 7, count / 3, count / 2 + 1, count - 1}) {
    const index_t at = i < count ? i : count - 1;
    const double wanted = expected(at);
    if (!near_enough(state,
                     what,
                     static_cast<double>(actual(at)),
                     wanted,
                     relative * (1 + std::abs(wanted)))) {
      return false;
    }
  }
  return true;
}

/// Times body(), which has run before, so that its memory is there.
template <class Body>
void measure(benchmark::State& state, const Body& body) {
  for (auto _ : state) {
    body();
    benchmark::ClobberMemory();
  }
}

/// For an operation that is bound by arithmetic.
inline void report_flops(benchmark::State& state, double flops) {
  constexpr auto rate = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["GFLOP/s"] = benchmark::Counter(flops / 1e9, rate);
  state.counters["share_of_peak"] = benchmark::Counter(flops / measured_peaks().multiply_add, rate);
}

/// For an operation that is bound by memory: bytes that it has to move, at least. Operands that lie
/// in a cache may move faster than a copy beyond the caches.
inline void report_bytes(benchmark::State& state, double bytes) {
  constexpr auto rate = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, rate);
  state.counters["share_of_copy"] = benchmark::Counter(bytes / measured_peaks().copy_bytes, rate);
}
inline void report_elements(benchmark::State& state, index_t elements) {
  report_bytes(state, static_cast<double>(elements) * sizeof(float));
}

}  // namespace mtp::bench
