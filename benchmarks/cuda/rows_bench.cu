// Operations that are bound by memory: norms, activations, the optimizer. Bytes are those that each
// has to move at least once; shares are of what a copy of the same run reaches.
#include <cmath>
#include <cstdint>
#include <vector>

#include "bench.cuh"
#include "mtp/ops/elementwise.hpp"
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

kept<rotation<norm_set>> norm_sets(index_t C) {
  return keep<rotation<norm_set>>(sizes_of({C}),
                                  static_cast<std::size_t>(4 * N * C * 2),
                                  [&](std::uint64_t stream) { return norm_set(C, stream); });
}

void forward(norm_set& s) {
  rms_norm_forward(context(), s.y.view(), s.inverse.view(), s.x.view(), s.weight.view(), 1e-5);
}

/// Row 17 of the result against its definition, in double.
bool norm_is_right(benchmark::State& state, norm_set& s, index_t C) {
  forward(s);
  const auto x = row_at(s.x, 17), y = row_at(s.y, 17), weight = s.weight.to_host();
  double squares = 0;
  for (const bf16 element : x) {
    squares += static_cast<double>(element) * static_cast<double>(element);
  }
  const double inverse = 1 / std::sqrt(squares / static_cast<double>(C) + 1e-5);
  for (const std::size_t c : {std::size_t{0}, static_cast<std::size_t>(C) / 2 + 3}) {
    const double expected = static_cast<double>(x[c]) * inverse * static_cast<double>(weight[c]);
    if (!near_enough(state,
                     "an element of the norm",
                     static_cast<double>(y[c]),
                     expected,
                     0.01 * std::abs(expected))) {
      return false;
    }
  }
  return true;
}

/// All sets have what the backward pass needs of the forward pass.
bool norms_are_right(benchmark::State& state, const kept<rotation<norm_set>>& each, index_t C) {
  if (!each.is_right && norm_is_right(state, each.made.first(), C)) {
    for (int set = 0; set < each.made.calls(1); ++set) {
      forward(each.made.next());
    }
    each.is_right = true;
  }
  return each.is_right;
}

void rms_norm_forward_bench(benchmark::State& state) {
  const index_t C = state.range(0);
  const auto each = norm_sets(C);
  auto& sets = each.made;
  if (norms_are_right(state, each, C)) {
    measure_in_graph(
        state, [&] { forward(sets.next()); }, sets.calls(10));
    report_bytes(state, 2 * bf16_bytes * static_cast<double>(N * C));
  }
}

void rms_norm_backward_bench(benchmark::State& state) {
  const index_t C = state.range(0);
  const bool adds = state.range(1) != 0;
  const auto each = norm_sets(C);
  auto& sets = each.made;
  if (!norms_are_right(state, each, C)) {
    return;
  }
  measure_in_graph(
      state,
      [&] {
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
      },
      sets.calls(10));
  report_bytes(state, (adds ? 4 : 3) * bf16_bytes * static_cast<double>(N * C));
}

struct swiglu_set {
  matrix_of<bf16> y, gate_up, d_gate_up;  // [N, F], [N, 2F], [N, 2F]

  swiglu_set(index_t F, std::uint64_t stream)
      : y(random_matrix<bf16>(N, F, stream + 1)),
        gate_up(random_matrix<bf16>(N, 2 * F, stream, 4)),
        d_gate_up(dims<2>{N, 2 * F}) {}
};

kept<rotation<swiglu_set>> swiglu_sets(index_t F) {
  return keep<rotation<swiglu_set>>(sizes_of({F}),
                                    static_cast<std::size_t>(5 * N * F * 2),
                                    [&](std::uint64_t stream) { return swiglu_set(F, stream); });
}

/// Row 5 of the result against its definition, in double.
bool swiglu_is_right(benchmark::State& state, const kept<rotation<swiglu_set>>& each, index_t F) {
  if (each.is_right) {
    return true;
  }
  auto& s = each.made.first();
  matrix_of<bf16> y(dims<2>{N, F});  // [N, F]
  swiglu_forward(context(), y.view(), s.gate_up.view());
  const auto g = row_at(s.gate_up, 5), result = row_at(y, 5);
  for (const std::size_t f : {std::size_t{0}, static_cast<std::size_t>(F) - 1}) {
    const auto gate = static_cast<double>(g[f]);
    const auto up = static_cast<double>(g[static_cast<std::size_t>(F) + f]);
    const double expected = gate / (1 + std::exp(-gate)) * up;
    if (!near_enough(state,
                     "an element of SwiGLU",
                     static_cast<double>(result[f]),
                     expected,
                     0.01 * std::abs(expected) + 1e-6)) {
      return false;
    }
  }
  each.is_right = true;
  return true;
}

void swiglu_forward_bench(benchmark::State& state) {
  const index_t F = state.range(0);
  const auto each = swiglu_sets(F);
  auto& sets = each.made;
  if (swiglu_is_right(state, each, F)) {
    measure_in_graph(
        state,
        [&] {
          auto& s = sets.next();
          swiglu_forward(context(), s.y.view(), s.gate_up.view());
        },
        sets.calls(10));
    report_bytes(state, 3 * bf16_bytes * static_cast<double>(N * F));
  }
}

void swiglu_backward_bench(benchmark::State& state) {
  const index_t F = state.range(0);
  const auto each = swiglu_sets(F);
  auto& sets = each.made;
  if (swiglu_is_right(state, each, F)) {
    measure_in_graph(
        state,
        [&] {
          auto& s = sets.next();
          swiglu_backward(context(), s.d_gate_up.view(), s.y.view(), s.gate_up.view());
        },
        sets.calls(10));
    report_bytes(state, 5 * bf16_bytes * static_cast<double>(N * F));
  }
}

/// bf16 parameters with f32 masters, moments and gradients, all of which decay.
struct adamw_set {
  index_t P;
  vector_of<bf16> value;                             // [P]
  vector_of<float> master, first, second, gradient;  // [P] each
  tensor<adamw_range, dims<1>, cuda> places;         // [ranges]

  explicit adamw_set(index_t count)
      : P(count),
        value(dims<1>{P}),
        master(random_vector<float>(P, 1)),
        first(random_vector<float>(P, 2, 0.01f)),
        second(random_vector<float>(P, 3)),
        gradient(random_vector<float>(P, 4)),
        places(dims<1>{ceil_div(P, adamw_range_elements)}, ranges_of(P)) {
    multiply(context(), second.view(), second.view(), second.view());
    copy(context(), value.view(), master.view());
  }
  static std::vector<adamw_range> ranges_of(index_t count) {
    std::vector<adamw_range> ranges;
    for (index_t begin = 0; begin < count; begin += adamw_range_elements) {
      ranges.push_back(
          {begin, static_cast<std::int32_t>(std::min(adamw_range_elements, count - begin)), 1});
    }
    return ranges;
  }
};

/// Four f32 and a bf16 are read, three and a bf16 written.
void adamw_update_bench(benchmark::State& state) {
  const index_t P = state.range(0);
  const auto each = keep<adamw_set>(sizes_of({P}), P);
  auto& s = each.made;
  const adamw_coefficients k{1e-4, 0.9, 0.95, 1e-8, 0.1, 0.5, 0.4, 0.2};
  const auto update = [&] {
    adamw_update(context(),
                 s.value.view(),
                 s.master.view(),
                 s.first.view(),
                 s.second.view(),
                 s.gradient.view(),
                 s.places.view(),
                 k);
  };
  if (!each.is_right) {
    const auto at = [&](const vector_of<float>& x) {
      return static_cast<double>(elements_at(x.data() + P - 5, 1)[0]);
    };
    const double w = at(s.master), g = k.gradient_scale * at(s.gradient);
    const double m1 = k.beta1 * at(s.first) + (1 - k.beta1) * g;
    const double v1 = k.beta2 * at(s.second) + (1 - k.beta2) * g * g;
    const double expected =
        w - k.learning_rate * (k.weight_decay * w +
                               m1 / k.correction1 / (std::sqrt(v1 / k.correction2) + k.epsilon));
    update();
    each.is_right = near_enough(state, "a parameter", at(s.master), expected, 1e-6);
  }
  if (each.is_right) {
    measure(state, update, 3);
    report_bytes(state, 32.0 * static_cast<double>(P));
  }
}

struct numbers {
  vector_of<float> x;  // [P]

  explicit numbers(index_t P) : x(random_vector<float>(P, 1)) {}
};

void sum_of_squares_bench(benchmark::State& state) {
  const index_t P = state.range(0);
  const auto& x = keep<numbers>(sizes_of({P}), P).made.x;
  vector_of<double> result(dims<1>{1});  // [1]
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

BENCHMARK(reported<rms_norm_forward_bench>)
    ->Name("rms_norm_forward")
    ->Arg(1024)
    ->Arg(2048)
    ->Arg(4096)
    ->Arg(8192)
    ->UseManualTime();
BENCHMARK(reported<rms_norm_backward_bench>)
    ->Name("rms_norm_backward")
    ->ArgNames({"", "residual"})
    ->ArgsProduct({{1024, 2048, 4096, 8192}, {0, 1}})
    ->UseManualTime();
BENCHMARK(reported<swiglu_forward_bench>)
    ->Name("swiglu_forward")
    ->Arg(2816)
    ->Arg(5632)
    ->Arg(11264)
    ->UseManualTime();
BENCHMARK(reported<swiglu_backward_bench>)
    ->Name("swiglu_backward")
    ->Arg(2816)
    ->Arg(5632)
    ->Arg(11264)
    ->UseManualTime();
BENCHMARK(reported<adamw_update_bench>)
    ->Name("adamw_update")
    ->Arg(1 << 24)
    ->Arg(500000000)
    ->UseManualTime();
BENCHMARK(reported<sum_of_squares_bench>)
    ->Name("sum_of_squares")
    ->Arg(1 << 24)
    ->Arg(500000000)
    ->UseManualTime();

}  // namespace
}  // namespace mtp::bench
