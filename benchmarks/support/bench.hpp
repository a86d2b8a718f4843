// What the benchmarks of the CPU backend share: one context, random operands, checks at a few
// elements, and rates as shares of the peaks of the same run.
#pragma once

#include <benchmark/benchmark.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

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

/// Numbers in [-1, 1), the same in every run; after 65521 of them (a prime, so that rows differ)
/// they begin again, because large operands would take longer to make than to work on.
class random_pattern {
 public:
  explicit random_pattern(std::uint64_t stream) : values_(65521) {
    const random_stream random(seed{1}, stream);
    for (std::size_t i = 0; i < values_.size(); ++i) {
      values_[i] = static_cast<float>(2 * random.uniform(i) - 1);
    }
  }
  float operator()(index_t i) const {
    return values_[static_cast<std::size_t>(i) % values_.size()];
  }

 private:
  std::vector<float> values_;
};

template <class... Sizes>
auto random_tensor(std::uint64_t stream, Sizes... sizes) {
  tensor<float, dims<static_cast<int>(sizeof...(Sizes))>, cpu> made(
      dims<static_cast<int>(sizeof...(Sizes))>{sizes...});
  const random_pattern random(stream);
  for (index_t i = 0; i < made.count(); ++i) {
    made.data()[i] = random(i);
  }
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
    const random_pattern random(stream);
    const auto w = view();
    for (index_t n = 0; n < N; ++n) {
      for (index_t k = 0; k < K; ++k) {
        w(n, k) = random(n * K + k);
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

/// For expectations, which are computed in double.
inline double real(float x) {
  return static_cast<double>(x);
}

inline constexpr double norm_epsilon = 1e-5;

/// Shapes of rows: one token, 4096 tokens of a model of width 256, and more than most caches hold.
inline void row_shapes(benchmark::internal::Benchmark* bench) {
  bench->Args({1, 1024})->Args({4096, 256})->Args({16384, 1024})->UseRealTime();
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
  state.counters["share_of_peak"] = benchmark::Counter(flops / multiply_add_peak(), rate);
}

/// For an operation that is bound by memory: bytes that it has to move, at least. The share is that
/// of the best rate at which arrays of so many bytes are read, copied or added, wherever in the
/// caches they lie.
inline void report_bytes(benchmark::State& state, double bytes) {
  constexpr auto rate = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, rate);
  state.counters["share_of_bandwidth"] =
      benchmark::Counter(bytes / bandwidth_peak(bytes).best(), rate);
}
inline void report_elements(benchmark::State& state, index_t elements) {
  report_bytes(state, static_cast<double>(elements) * sizeof(float));
}

}  // namespace mtp::bench
