// Linear maps of experts (ops/grouped_linear.hpp). Beside each the same number of rows through one
// matrix: "of_dense" is its time over that of the experts, in turns.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <vector>

#include "bench.hpp"
#include "mtp/ops/grouped_linear.hpp"
#include "mtp/ops/linear.hpp"

namespace mtp::bench {
namespace {

/// R rows for each of E experts, whose matrices are [N, K].
struct expert_operands {
  index_t E, R, N, K;
  matrix_of x, y;  // [E R, K], [E R, N]
  weight_of w;     // [E N, K]
  tensor<index_t, dims<1>, cpu> offsets;

  explicit expert_operands(const benchmark::State& state)
      : E(state.range(0)),
        R(state.range(1)),
        N(state.range(2)),
        K(state.range(3)),
        x(random_tensor(1, E * R, K)),
        y(random_tensor(2, E * R, N)),
        w(3, E * N, K),
        offsets(dims<1>{E + 1}) {
    for (index_t e = 0; e <= E; ++e) {
      offsets.data()[e] = e * R;
    }
  }
  /// The matrix of the first expert, for all rows.
  weight_view<float, cpu> dense() { return w.view().rows(0, N); }
};

double seconds_of(const auto& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Compares an element of the result of grouped(), and times it; of few rows, the bytes count.
void experts_bench(benchmark::State& state,
                   expert_operands& o,
                   const auto& grouped,
                   const auto& dense,
                   double actual,
                   double expected) {
  if (!near_enough(state, "an element of the product", actual, expected, 1e-4)) {
    return;
  }
  constexpr std::size_t turns = 9;
  std::array<double, turns> ratios{};
  dense();
  for (double& ratio : ratios) {
    const double alone = seconds_of(dense);
    ratio = alone / seconds_of(grouped);
  }
  std::nth_element(ratios.begin(), ratios.begin() + turns / 2, ratios.end());
  measure(state, grouped);
  report_flops(
      state,
      2 * static_cast<double>(o.E * o.R) * static_cast<double>(o.N) * static_cast<double>(o.K));
  state.counters["of_dense"] = ratios[turns / 2];
}

void grouped_linear_forward_bench(benchmark::State& state) {
  expert_operands o(state);
  const auto grouped = [&] {
    grouped_linear_forward(context(), o.y.view(), o.x.view(), o.w.view(), o.offsets.view());
  };
  grouped();
  const index_t row = o.E * o.R - 1, output = o.N / 2;
  double expected = 0;
  for (index_t k = 0; k < o.K; ++k) {
    expected += real(o.x(row, k)) * real(o.w.view()((o.E - 1) * o.N + output, k));
  }
  experts_bench(
      state,
      o,
      grouped,
      [&] { linear_forward(context(), o.y.view(), o.x.view(), o.dense()); },
      real(o.y(row, output)),
      expected);
}

void grouped_linear_backward_input_bench(benchmark::State& state) {
  expert_operands o(state);
  const auto grouped = [&] {
    grouped_linear_backward_input(context(), o.x.view(), o.y.view(), o.w.view(), o.offsets.view());
  };
  grouped();
  const index_t row = o.E * o.R - 1, input = o.K / 2;
  double expected = 0;
  for (index_t n = 0; n < o.N; ++n) {
    expected += real(o.y(row, n)) * real(o.w.view()((o.E - 1) * o.N + n, input));
  }
  experts_bench(
      state,
      o,
      grouped,
      [&] { linear_backward_input(context(), o.x.view(), o.y.view(), o.dense()); },
      real(o.x(row, input)),
      expected);
}

void grouped_linear_backward_weight_bench(benchmark::State& state) {
  expert_operands o(state);
  weight_of dw(o.E * o.N, o.K);
  const auto grouped = [&] {
    grouped_linear_backward_weight(context(), dw.view(), o.y.view(), o.x.view(), o.offsets.view());
  };
  grouped();
  const index_t output = o.N / 2, input = o.K / 2;
  double expected = 0;
  for (index_t row = (o.E - 1) * o.R; row < o.E * o.R; ++row) {
    expected += real(o.y(row, output)) * real(o.x(row, input));
  }
  const double actual = real(dw.view()((o.E - 1) * o.N + output, input));
  experts_bench(
      state,
      o,
      grouped,
      [&] { linear_backward_weight(context(), dw.view().rows(0, o.N), o.y.view(), o.x.view()); },
      actual,
      expected);
}

/// E, R, N, K: decoding, then training; those of examples/deepseek_v3, and wider ones.
void expert_shapes(benchmark::internal::Benchmark* bench) {
  for (const index_t rows : {1, 4, 64, 256}) {
    bench->Args({16, rows, 512, 256})->Args({16, rows, 1024, 1024});
  }
  bench->UseRealTime();
}

BENCHMARK(grouped_linear_forward_bench)->Name("grouped_linear_forward")->Apply(expert_shapes);
BENCHMARK(grouped_linear_backward_input_bench)
    ->Name("grouped_linear_backward_input")
    ->Apply(expert_shapes);
BENCHMARK(grouped_linear_backward_weight_bench)
    ->Name("grouped_linear_backward_weight")
    ->Apply(expert_shapes);

}  // namespace
}  // namespace mtp::bench
