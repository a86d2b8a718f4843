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

/// z[v] = sum over c of hidden[c] w[v, c] in double, a thread for each v: the simplest code, on the
/// device, because there are half a gigabyte of w.
__global__ void logits_kernel(double* z,           // [V]
                              const bf16* hidden,  // [C]
                              const bf16* w,       // [V, C]
                              index_t V,
                              index_t C) {
  const index_t v = static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (v < V) {
    double sum = 0;
    for (index_t c = 0; c < C; ++c) {
      sum += static_cast<double>(static_cast<float>(hidden[c])) *
             static_cast<double>(static_cast<float>(w[v * C + c]));
    }
    z[v] = sum;
  }
}

/// The loss of one row against its definition, in double.
bool is_right(benchmark::State& state, head_set& s, index_t r) {
  s.forward_and_backward();
  vector_of<double> logits(dims<1>{s.V});  // [V]
  constexpr unsigned threads = 256;
  cuda_detail::launch(context(),
                      "logits",
                      dim3(cuda_detail::extent_of(ceil_div(s.V, index_t{threads}), "logits")),
                      dim3(threads),
                      0,
                      logits_kernel,
                      logits.data(),
                      s.hidden.data() + r * s.C,
                      s.w.data(),
                      s.V,
                      s.C);
  const auto z = logits.to_host();
  const double largest = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (const double x : z) {
    sum += std::exp(x - largest);
  }
  const auto target = static_cast<std::size_t>(s.target_list[static_cast<std::size_t>(r)]);
  return near_enough(state,
                     "a loss",
                     static_cast<double>(elements_at(s.losses.data() + r, 1)[0]),
                     largest + std::log(sum) - z[target],
                     0.05);
}

kept<head_set> head_set_of(const benchmark::State& state) {
  const index_t R = state.range(0), C = state.range(1), V = state.range(2);
  return keep<head_set>(sizes_of({R, C, V}), R, C, V);
}

/// Whether it was found right before, or is now.
bool is_right(benchmark::State& state, const kept<head_set>& each) {
  each.is_right = each.is_right ||
                  (is_right(state, each.made, 0) && is_right(state, each.made, each.made.R - 1));
  return each.is_right;
}

void linear_cross_entropy_bench(benchmark::State& state) {
  const auto each = head_set_of(state);
  auto& s = each.made;
  if (is_right(state, each)) {
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
  const auto each = head_set_of(state);
  auto& s = each.made;
  if (is_right(state, each)) {
    measure(
        state, [&] { s.forward(); }, 1);
    report_flops(
        state,
        2.0 * static_cast<double>(s.R) * static_cast<double>(s.C) * static_cast<double>(s.V));
  }
}

// 8192 tokens with one output, and with five.
BENCHMARK(reported<linear_cross_entropy_bench>)
    ->Name("linear_cross_entropy")
    ->Args({8192, 2048, 131072})
    ->Args({40960, 2048, 131072})
    ->Args({40960, 512, 32768})
    ->UseManualTime();
BENCHMARK(reported<linear_cross_entropy_forward_bench>)
    ->Name("linear_cross_entropy_forward")
    ->Args({8192, 2048, 131072})
    ->UseManualTime();

}  // namespace
}  // namespace mtp::bench
