// The output matrix with softmax and cross entropy, forward and backward, for the rows of all
// depths at once: C = 2048, V = 131072, bf16. Six T C V floating-point operations per row and
// matrix element, and the memory that it takes besides its arguments.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "bench.cuh"
#include "mtp/ops/linear_cross_entropy.hpp"

namespace mtp::bench {
namespace {

struct head_set {
  index_t R, C, V;
  matrix_of<bf16> hidden, dhidden, w;        // [R, C], [R, C], [V, C]
  matrix_of<float> dw, losses, weights;      // [V, C], [R, 1], [R, 1]
  tensor<token_t, dims<2>, cuda> targets;    // [R, 1]
  tensor<token_t, dims<1>, cuda> predicted;  // [R]
  std::vector<token_t> target_list;

  head_set(index_t rows, index_t width, index_t vocabulary)
      : R(rows),
        C(width),
        V(vocabulary),
        hidden(random_matrix<bf16>(R, C, 1)),
        dhidden(dims<2>{R, C}),
        w(random_matrix<bf16>(V, C, 2, 0.1f)),
        dw(dims<2>{V, C}),
        losses(dims<2>{R, 1}),
        weights(random_matrix<float>(R, 1, 3)),
        targets(dims<2>{R, 1}),
        predicted(dims<1>{R}) {
    const random_stream random(seed{4}, 0);
    for (index_t r = 0; r < R; ++r) {
      target_list.push_back(static_cast<token_t>(
          random.below(static_cast<std::uint64_t>(r), static_cast<std::uint64_t>(V))));
    }
    targets = tensor<token_t, dims<2>, cuda>(dims<2>{R, 1}, target_list);
    context().reserve(extra_bytes());
  }

  /// Memory besides arguments and results.
  index_t extra_bytes() const {
    return ops_of<cuda>::linear_cross_entropy_workspace<bf16>(R, V, C, context().threads());
  }
  weight_view<const bf16, cuda> matrix() const { return {w.data(), V, C}; }

  void forward_and_backward() {
    linear_cross_entropy(context(),
                         losses.view(),
                         predicted.view(),
                         dhidden.view(),
                         weight_view<float, cuda>(dw.data(), V, C),
                         hidden.view(),
                         matrix(),
                         targets.view(),
                         weights.view());
  }
  void forward() {
    linear_cross_entropy_forward(
        context(), losses.view(), predicted.view(), hidden.view(), matrix(), targets.view());
  }
};

/// The loss of one row against its definition, in double.
bool is_right(benchmark::State& state, head_set& s, index_t r) {
  s.forward_and_backward();
  const auto losses = s.losses.to_host();
  const auto hidden = s.hidden.to_host(), w = s.w.to_host();
  std::vector<double> z(static_cast<std::size_t>(s.V));
  double largest = -1e30, sum = 0;
  for (index_t v = 0; v < s.V; ++v) {
    double logit = 0;
    for (index_t c = 0; c < s.C; ++c) {
      logit += static_cast<double>(hidden[static_cast<std::size_t>(r * s.C + c)]) *
               static_cast<double>(w[static_cast<std::size_t>(v * s.C + c)]);
    }
    z[static_cast<std::size_t>(v)] = logit;
    largest = std::max(largest, logit);
  }
  for (const double x : z) {
    sum += std::exp(x - largest);
  }
  const auto target = static_cast<std::size_t>(s.target_list[static_cast<std::size_t>(r)]);
  return near_enough(state,
                     "a loss",
                     static_cast<double>(losses[static_cast<std::size_t>(r)]),
                     largest + std::log(sum) - z[target],
                     0.05);
}

void linear_cross_entropy_bench(benchmark::State& state) {
  head_set s(state.range(0), state.range(1), state.range(2));
  if (is_right(state, s, s.R - 1)) {
    measure(
        state, [&] { s.forward_and_backward(); }, 1);
    report_flops(
        state,
        6.0 * static_cast<double>(s.R) * static_cast<double>(s.C) * static_cast<double>(s.V));
    state.counters["extra_bytes"] = static_cast<double>(s.extra_bytes());
    state.counters["full_logits_bytes"] = 2.0 * static_cast<double>(s.R) * static_cast<double>(s.V);
  }
}

void linear_cross_entropy_forward_bench(benchmark::State& state) {
  head_set s(state.range(0), state.range(1), state.range(2));
  if (is_right(state, s, 0)) {
    measure(
        state, [&] { s.forward(); }, 1);
    report_flops(
        state,
        2.0 * static_cast<double>(s.R) * static_cast<double>(s.C) * static_cast<double>(s.V));
  }
}

// 8192 tokens with one output, and with five.
BENCHMARK(linear_cross_entropy_bench)
    ->Args({8192, 2048, 131072})
    ->Args({40960, 2048, 131072})
    ->Args({40960, 512, 32768})
    ->UseManualTime();
BENCHMARK(linear_cross_entropy_forward_bench)->Args({8192, 2048, 131072})->UseManualTime();

}  // namespace
}  // namespace mtp::bench
