// Matrix products of the shapes that training and decoding have.
#include <benchmark/benchmark.h>

#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

namespace {

using mtp::index_t;

struct operands {
  mtp::tensor<float, mtp::dims<2>, mtp::cpu> x, y;  // [M, K], [M, N]
  mtp::buffer<float, mtp::cpu> w, dw;               // [N, K]
  index_t N, K;

  operands(index_t M, index_t outputs, index_t inputs)
      : x(mtp::dims<2>{M, inputs}),
        y(mtp::dims<2>{M, outputs}),
        w(mtp::backend_traits<mtp::cpu>::weight_storage<float>(outputs, inputs)),
        dw(w.count()),
        N(outputs),
        K(inputs) {
    const mtp::random_stream random(mtp::seed{1}, 0);
    std::uint64_t position = 0;
    for (index_t i = 0; i < x.count(); ++i) {
      x.data()[i] = static_cast<float>(random.uniform(position++) - 0.5);
    }
    for (index_t i = 0; i < w.count(); ++i) {
      w.data()[i] = static_cast<float>(random.uniform(position++) - 0.5);
    }
    for (index_t i = 0; i < y.count(); ++i) {
      y.data()[i] = static_cast<float>(random.uniform(position++) - 0.5);
    }
  }
  mtp::weight_view<float, mtp::cpu> weight() { return {w.data(), N, K}; }
  mtp::weight_view<float, mtp::cpu> gradient() { return {dw.data(), N, K}; }
};

mtp::context<mtp::cpu>& shared_context() {
  static mtp::context<mtp::cpu> context;
  return context;
}

void count(benchmark::State& state) {
  const double work = 2.0 * static_cast<double>(state.range(0) * state.range(1) * state.range(2));
  state.counters["GFLOP/s"] =
      benchmark::Counter(work / 1e9, benchmark::Counter::kIsIterationInvariantRate);
}

void forward(benchmark::State& state) {
  operands o(state.range(0), state.range(1), state.range(2));
  for (auto _ : state) {
    mtp::linear_forward(shared_context(), o.y.view(), o.x.view(), o.weight());
  }
  count(state);
}

void backward_input(benchmark::State& state) {
  operands o(state.range(0), state.range(1), state.range(2));
  for (auto _ : state) {
    mtp::linear_backward_input(shared_context(), o.x.view(), o.y.view(), o.weight());
  }
  count(state);
}

void backward_weight(benchmark::State& state) {
  operands o(state.range(0), state.range(1), state.range(2));
  for (auto _ : state) {
    mtp::linear_backward_weight(shared_context(), o.gradient(), o.y.view(), o.x.view());
  }
  count(state);
}

void shapes(benchmark::internal::Benchmark* bench) {
  for (const auto& [N, K] : {std::pair<index_t, index_t>{768, 256},
                             {256, 256},
                             {1408, 256},
                             {256, 704},
                             {256, 256},
                             {1024, 1024}}) {
    bench->Args({4096, N, K});
  }
  bench->UseRealTime()->Unit(benchmark::kMicrosecond);
}

}  // namespace

BENCHMARK(forward)->Apply(shapes);
BENCHMARK(backward_input)->Apply(shapes);
BENCHMARK(backward_weight)->Apply(shapes);
