// Causal attention in bf16. Floating-point operations are counted as in the literature: 4 B H S^2 E
// / 2 forward, two and a half times that backward, whatever a kernel computes again.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "bench.cuh"
#include "mtp/ops/attention.hpp"
#include "mtp/ops/rope_attention.hpp"

namespace mtp::bench {
namespace {

using heads = view<bf16, dims<3>, cuda>;

/// About 16 Ki rows in sequences of `length`, with 2048 / E query heads.
struct sequences {
  index_t length, E, H, G, batch, N;
  matrix_of<bf16> q, k, v, out, dout, dq, dk, dv;  // [N, H E] or [N, G E]
  matrix_of<float> statistics;                     // [N, 2H]

  sequences(index_t sequence_length, index_t width, index_t group, std::uint64_t stream)
      : length(sequence_length),
        E(width),
        H(2048 / width),
        G(H / group),
        batch(16384 / sequence_length),
        N(batch * sequence_length),
        q(random_matrix<bf16>(N, H * E, stream)),
        k(random_matrix<bf16>(N, G * E, stream + 1)),
        v(random_matrix<bf16>(N, G * E, stream + 2)),
        out(dims<2>{N, H * E}),
        dout(random_matrix<bf16>(N, H * E, stream + 3)),
        dq(dims<2>{N, H * E}),
        dk(dims<2>{N, G * E}),
        dv(dims<2>{N, G * E}),
        statistics(dims<2>{N, 2 * H}) {
    context().reserve(
        ops_of<cuda>::attention_workspace<bf16>(N, length, H * E, G * E, E, context().threads()));
  }

  heads of(matrix_of<bf16>& rows, index_t count) const {
    return {rows.data(), {N, count, E}, {count * E, E, 1}};
  }
  void forward() {
    attention_forward(
        context(), of(out, H), statistics.view(), of(q, H), of(k, G), of(v, G), batch);
  }
  void backward() {
    attention_backward(context(),
                       of(dq, H),
                       of(dk, G),
                       of(dv, G),
                       of(dout, H),
                       of(q, H),
                       of(k, G),
                       of(v, G),
                       of(out, H),
                       statistics.view(),
                       batch);
  }
  double forward_flops() const {
    return 2.0 * static_cast<double>(N) * static_cast<double>(length) * static_cast<double>(H * E);
  }
};

/// Row t of head h of the second sequence against its definition, in double.
bool is_right(benchmark::State& state, sequences& s, index_t t, index_t h) {
  s.forward();
  const index_t row0 = s.batch > 1 ? s.length : 0, g = h / (s.H / s.G);
  const auto q = row_at(s.q, row0 + t, h * s.E, s.E), out = row_at(s.out, row0 + t, h * s.E, s.E);
  const auto k = elements_at(s.k.data() + row0 * s.G * s.E, (t + 1) * s.G * s.E);
  const auto v = elements_at(s.v.data() + row0 * s.G * s.E, (t + 1) * s.G * s.E);
  const auto at = [](const std::vector<bf16>& x, index_t i) {
    return static_cast<double>(x[static_cast<std::size_t>(i)]);
  };
  std::vector<double> p(static_cast<std::size_t>(t) + 1);
  double largest = -1e30, sum = 0;
  for (index_t j = 0; j <= t; ++j) {
    double score = 0;
    for (index_t e = 0; e < s.E; ++e) {
      score += at(q, e) * at(k, (j * s.G + g) * s.E + e);
    }
    p[static_cast<std::size_t>(j)] = score / std::sqrt(static_cast<double>(s.E));
    largest = std::max(largest, p[static_cast<std::size_t>(j)]);
  }
  for (double& x : p) {
    x = std::exp(x - largest);
    sum += x;
  }
  for (const index_t e : {index_t{0}, s.E - 1}) {
    double expected = 0;
    for (index_t j = 0; j <= t; ++j) {
      expected += p[static_cast<std::size_t>(j)] / sum * at(v, (j * s.G + g) * s.E + e);
    }
    if (!near_enough(state, "an output of attention", at(out, e), expected, 0.02)) {
      return false;
    }
  }
  return true;
}

kept<sequences> sequences_of(const benchmark::State& state, const char* use) {
  const index_t length = state.range(0), width = state.range(1), group = state.range(2);
  return keep<sequences>(use + sizes_of({length, width, group}), length, width, group, 1);
}

/// Cosines and sines of positions: rotations keep lengths, however often they are repeated.
matrix_of<float> rotations(index_t length, index_t width) {
  std::vector<float> table(static_cast<std::size_t>(length * width));
  for (index_t t = 0; t < length; ++t) {
    for (index_t e = 0; e < width / 2; ++e) {
      const double angle = static_cast<double>(t) *
                           std::pow(1e4, -2 * static_cast<double>(e) / static_cast<double>(width));
      const auto at = static_cast<std::size_t>(t * width + e);
      table[at] = static_cast<float>(std::cos(angle));
      table[at + static_cast<std::size_t>(width / 2)] = static_cast<float>(std::sin(angle));
    }
  }
  return {dims<2>{length, width}, table};
}

/// Whether it was found right before, or is now.
bool is_right(benchmark::State& state, const kept<sequences>& each) {
  auto& s = each.made;
  each.is_right = each.is_right || (is_right(state, s, s.length - 1, s.H - 1) &&
                                    is_right(state, s, s.length / 2 + 1, 1));
  return each.is_right;
}

void attention_forward_bench(benchmark::State& state) {
  const auto each = sequences_of(state, "as they are ");
  auto& s = each.made;
  if (is_right(state, each)) {
    measure(
        state, [&] { s.forward(); }, 5);
    report_flops(state, s.forward_flops());
  }
}

void attention_backward_bench(benchmark::State& state) {
  const auto each = sequences_of(state, "as they are ");
  auto& s = each.made;
  if (is_right(state, each)) {
    measure(
        state, [&] { s.backward(); }, 3);
    report_flops(state, 2.5 * s.forward_flops());
  }
}

/// What the rotation adds when it is folded in.
void rope_attention_forward_bench(benchmark::State& state) {
  const auto each = sequences_of(state, "rotated ");
  auto& s = each.made;
  const auto table = rotations(s.length, s.E);  // [length, E]
  if (is_right(state, each)) {
    measure(
        state,
        [&] {
          rope_attention_forward(context(),
                                 s.of(s.out, s.H),
                                 s.statistics.view(),
                                 s.of(s.q, s.H),
                                 s.of(s.k, s.G),
                                 s.of(s.v, s.G),
                                 table.view(),
                                 s.batch);
        },
        5);
    report_flops(state, s.forward_flops());
  }
}

/// Lengths, head widths, and query heads per key/value head.
void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgsProduct({{1024, 2048, 4096, 8192}, {64, 128}, {1, 4}})->UseManualTime();
}

BENCHMARK(reported<attention_forward_bench>)->Name("attention_forward")->Apply(sizes);
BENCHMARK(reported<attention_backward_bench>)->Name("attention_backward")->Apply(sizes);
BENCHMARK(reported<rope_attention_forward_bench>)
    ->Name("rope_attention_forward")
    ->ArgsProduct({{2048, 4096}, {128}, {4}})
    ->UseManualTime();

}  // namespace
}  // namespace mtp::bench
