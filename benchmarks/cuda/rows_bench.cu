// Operations that are bound by memory: norms, activations, the optimizer. Bytes are those that each
// has to move at least once; shares are of what a copy of the same run reaches.
#include <cmath>
#include <cstdint>
#include <vector>

#include "bench.cuh"
#include "mtp/ops/optimizer.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "mtp/ops/swiglu.hpp"

namespace mtp::bench {
namespace {

constexpr index_t N = 8192;
constexpr double bf16_bytes = 2;

/// y = dx, x, dy and residual of one norm.
struct norm_set {
  matrix_of<bf16> y, x, dy, residual;  // [N, C] each
  vector_of<bf16> weight;              // [C]
  vector_of<float> inverse, dweight;   // [N], [C]

  norm_set(index_t C, std::uint64_t stream)
      : y(dims<2>{N, C}),
        x(random_matrix<bf16>(N, C, stream)),
        dy(random_matrix<bf16>(N, C, stream + 1)),
        residual(random_matrix<bf16>(N, C, stream + 2)),
        weight(random_vector<bf16>(C, stream + 3)),
        inverse(dims<1>{N}),
        dweight(dims<1>{C}) {}
};

rotation<norm_set> norm_sets(index_t C) {
  return {static_cast<std::size_t>(4 * N * C * 2),
          [&](std::uint64_t stream) { return norm_set(C, stream); }};
}

void forward(norm_set& s) {
  rms_norm_forward(context(), s.y.view(), s.inverse.view(), s.x.view(), s.weight.view(), 1e-5);
}

/// Row 17 of the result against its definition, in double.
bool norm_is_right(benchmark::State& state, norm_set& s, index_t C) {
  forward(s);
  const auto x = s.x.to_host(), y = s.y.to_host(), weight = s.weight.to_host();
  const std::size_t row = 17 * static_cast<std::size_t>(C);
  double squares = 0;
  for (std::size_t c = 0; c < static_cast<std::size_t>(C); ++c) {
    squares += static_cast<double>(x[row + c]) * static_cast<double>(x[row + c]);
  }
  const double inverse = 1 / std::sqrt(squares / static_cast<double>(C) + 1e-5);
  for (const std::size_t c : {std::size_t{0}, static_cast<std::size_t>(C) / 2 + 3}) {
    const double expected =
        static_cast<double>(x[row + c]) * inverse * static_cast<double>(weight[c]);
    if (!near_enough(state,
                     "an element of the norm",
                     static_cast<double>(y[row + c]),
                     expected,
                     0.01 * std::abs(expected))) {
      return false;
    }
  }
  return true;
}

void rms_norm_forward_bench(benchmark::State& state) {
  const index_t C = state.range(0);
  auto sets = norm_sets(C);
  if (norm_is_right(state, sets.first(), C)) {
    measure(state, [&] { forward(sets.next()); });
    report_bytes(state, 2 * bf16_bytes * static_cast<double>(N * C));
  }
}

void rms_norm_backward_bench(benchmark::State& state) {
  const index_t C = state.range(0);
  const bool adds = state.range(1) != 0;
  auto sets = norm_sets(C);
  if (!norm_is_right(state, sets.first(), C)) {
    return;
  }
  measure(state, [&] {
    auto& s = sets.next();
    rms_norm_backward(context(),
                      s.y.view(),
                      s.dweight.view(),
                      s.dy.view(),
                      s.x.view(),
                      s.inverse.view(),
                      s.weight.view(),
                      adds ? matrix_view<const bf16, cuda>(s.residual.view())
                           : matrix_view<const bf16, cuda>(nullptr, {0, 0}));
  });
  report_bytes(state, (adds ? 4 : 3) * bf16_bytes * static_cast<double>(N * C));
}

struct swiglu_set {
  matrix_of<bf16> y, gate_up, d_gate_up;  // [N, F], [N, 2F], [N, 2F]

  swiglu_set(index_t F, std::uint64_t stream)
      : y(random_matrix<bf16>(N, F, stream + 1)),
        gate_up(random_matrix<bf16>(N, 2 * F, stream, 4)),
        d_gate_up(dims<2>{N, 2 * F}) {}
};

rotation<swiglu_set> swiglu_sets(index_t F) {
  return {static_cast<std::size_t>(5 * N * F * 2),
          [&](std::uint64_t stream) { return swiglu_set(F, stream); }};
}

bool swiglu_is_right(benchmark::State& state, swiglu_set& s, index_t F) {
  matrix_of<bf16> y(dims<2>{N, F});
  swiglu_forward(context(), y.view(), s.gate_up.view());
  const auto g = s.gate_up.to_host(), result = y.to_host();
  for (const std::size_t f : {std::size_t{0}, static_cast<std::size_t>(F) - 1}) {
    const std::size_t row = 5 * 2 * static_cast<std::size_t>(F);
    const auto gate = static_cast<double>(g[row + f]);
    const auto up = static_cast<double>(g[row + static_cast<std::size_t>(F) + f]);
    const double expected = gate / (1 + std::exp(-gate)) * up;
    if (!near_enough(state,
                     "an element of SwiGLU",
                     static_cast<double>(result[5 * static_cast<std::size_t>(F) + f]),
                     expected,
                     0.01 * std::abs(expected) + 1e-6)) {
      return false;
    }
  }
  return true;
}

void swiglu_forward_bench(benchmark::State& state) {
  const index_t F = state.range(0);
  auto sets = swiglu_sets(F);
  if (swiglu_is_right(state, sets.first(), F)) {
    measure(state, [&] {
      auto& s = sets.next();
      swiglu_forward(context(), s.y.view(), s.gate_up.view());
    });
    report_bytes(state, 3 * bf16_bytes * static_cast<double>(N * F));
  }
}

void swiglu_backward_bench(benchmark::State& state) {
  const index_t F = state.range(0);
  auto sets = swiglu_sets(F);
  if (swiglu_is_right(state, sets.first(), F)) {
    measure(state, [&] {
      auto& s = sets.next();
      swiglu_backward(context(), s.d_gate_up.view(), s.y.view(), s.gate_up.view());
    });
    report_bytes(state, 5 * bf16_bytes * static_cast<double>(N * F));
  }
}

/// bf16 parameters with f32 masters, moments and gradients: four f32 read, three written, one bf16
/// written.
void adamw_update_bench(benchmark::State& state) {
  const index_t P = state.range(0);
  vector_of<bf16> value(dims<1>{P});
  auto master = random_vector<float>(P, 1), first = random_vector<float>(P, 2, 0.01f);
  auto gradient = random_vector<float>(P, 4);
  auto second = random_vector<float>(P, 3);
  multiply(context(), second.view(), second.view(), second.view());
  std::vector<adamw_range> ranges;
  for (index_t begin = 0; begin < P; begin += adamw_range_elements) {
    ranges.push_back(
        {begin, static_cast<std::int32_t>(std::min(adamw_range_elements, P - begin)), 1});
  }
  const tensor<adamw_range, dims<1>, cuda> places(dims<1>{static_cast<index_t>(ranges.size())},
                                                  ranges);
  const adamw_coefficients k{1e-4, 0.9, 0.95, 1e-8, 0.1, 0.5, 0.4, 0.2};
  const auto update = [&] {
    adamw_update(context(),
                 value.view(),
                 master.view(),
                 first.view(),
                 second.view(),
                 gradient.view(),
                 places.view(),
                 k);
  };
  const std::size_t at = static_cast<std::size_t>(P) - 5;
  const double w = static_cast<double>(master.to_host()[at]);
  const double m = static_cast<double>(first.to_host()[at]);
  const double v = static_cast<double>(second.to_host()[at]);
  const double g = k.gradient_scale * static_cast<double>(gradient.to_host()[at]);
  const double m1 = k.beta1 * m + (1 - k.beta1) * g, v1 = k.beta2 * v + (1 - k.beta2) * g * g;
  const double expected =
      w - k.learning_rate * (k.weight_decay * w +
                             m1 / k.correction1 / (std::sqrt(v1 / k.correction2) + k.epsilon));
  update();
  if (near_enough(
          state, "a parameter", static_cast<double>(master.to_host()[at]), expected, 1e-6)) {
    measure(state, update, 3);
    report_bytes(state, 30.0 * static_cast<double>(P));
  }
}

void sum_of_squares_bench(benchmark::State& state) {
  const index_t P = state.range(0);
  const auto x = random_vector<float>(P, 1);
  vector_of<double> result(dims<1>{1});
  context().reserve(ops_of<cuda>::sum_of_squares_workspace(P));
  const auto run = [&] { sum_of_squares(context(), result.view(), x.view()); };
  run();
  // The numbers are uniform in [-1, 1): a third each, with a deviation of 0.3 from one to the next.
  const auto count = static_cast<double>(P);
  if (near_enough(state, "the sum", result.to_host()[0], count / 3, 3 * std::sqrt(count))) {
    measure(state, run, 3);
    report_read_bytes(state, 4.0 * count);
  }
}

BENCHMARK(rms_norm_forward_bench)->Arg(1024)->Arg(2048)->Arg(4096)->Arg(8192)->UseManualTime();
BENCHMARK(rms_norm_backward_bench)
    ->ArgsProduct({{1024, 2048, 4096, 8192}, {0, 1}})
    ->UseManualTime();
BENCHMARK(swiglu_forward_bench)->Arg(2816)->Arg(5632)->Arg(11264)->UseManualTime();
BENCHMARK(swiglu_backward_bench)->Arg(2816)->Arg(5632)->Arg(11264)->UseManualTime();
BENCHMARK(adamw_update_bench)->Arg(1 << 24)->Arg(500000000)->UseManualTime();
BENCHMARK(sum_of_squares_bench)->Arg(1 << 24)->Arg(500000000)->UseManualTime();

}  // namespace
}  // namespace mtp::bench
