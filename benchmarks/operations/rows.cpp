// Operations on rows: RMSNorm, rotation, SwiGLU, Medusa's residual, softmax, embedding. All are
// bound by memory: every operand counts once for each time that it has to be read or written.
#include <cmath>

#include "bench.hpp"
#include "mtp/ops/embedding.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "mtp/ops/rope.hpp"
#include "mtp/ops/softmax.hpp"
#include "mtp/ops/swiglu.hpp"

namespace mtp::bench {
namespace {

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

/// Runs once, compares elements of `result` with expected(row, column), times run().
template <class Run, class Expected>
void row_bench(benchmark::State& state,
               const Run& run,
               matrix_of& result,
               index_t elements,
               const Expected& expected) {
  run();
  const index_t C = result.extent(1);
  if (near_at_samples(
          state,
          "an element",
          result.count(),
          [&](index_t i) { return result.data()[i]; },
          [&](index_t i) { return expected(i / C, i % C); },
          1e-4)) {
    measure(state, run);
    report_elements(state, elements);
  }
}

struct norm_operands {
  matrix_of x, y, dy;  // [N, C]
  vector_of weight, dweight, inv_rms;

  norm_operands(index_t N, index_t C)
      : x(random_tensor(1, N, C)),
        y(dims<2>{N, C}),
        dy(random_tensor(2, N, C)),
        weight(random_tensor(3, C)),
        dweight(dims<1>{C}),
        inv_rms(dims<1>{N}) {}
  void forward() {
    rms_norm_forward(context(), y.view(), inv_rms.view(), x.view(), weight.view(), norm_epsilon);
  }
  double scale_of(index_t n) const {
    double squares = 0;
    for (index_t c = 0; c < x.extent(1); ++c) {
      squares += real(x.view()(n, c)) * real(x.view()(n, c));
    }
    return 1 / std::sqrt(squares / static_cast<double>(x.extent(1)) + norm_epsilon);
  }
};

void rms_norm_forward_bench(benchmark::State& state) {
  norm_operands o(state.range(0), state.range(1));
  row_bench(
      state,
      [&] { o.forward(); },
      o.y,
      2 * o.x.count(),
      [&](index_t n, index_t c) { return real(o.x(n, c)) * o.scale_of(n) * real(o.weight(c)); });
}

void rms_norm_backward_bench(benchmark::State& state) {
  norm_operands o(state.range(0), state.range(1));
  o.forward();
  matrix_of dx(o.x.shape());
  const matrix_view<const float, cpu> nothing(nullptr, dims<2>{0, 0});
  row_bench(
      state,
      [&] {
        rms_norm_backward(context(),
                          dx.view(),
                          o.dweight.view(),
                          o.dy.view(),
                          o.x.view(),
                          o.inv_rms.view(),
                          o.weight.view(),
                          nothing);
      },
      dx,
      3 * o.x.count(),
      [&](index_t n, index_t c) {
        const double r = o.scale_of(n);
        double along = 0;
        for (index_t j = 0; j < o.x.extent(1); ++j) {
          along += real(o.dy(n, j)) * real(o.weight(j)) * real(o.x(n, j));
        }
        along /= static_cast<double>(o.x.extent(1));
        return r * (real(o.dy(n, c)) * real(o.weight(c)) - real(o.x(n, c)) * r * r * along);
      });
}

/// Forward, then backward, which turns it back: x is the same after each pair.
void rope_bench(benchmark::State& state, bool backward) {
  const index_t N = state.range(0), H = state.range(1), E = state.range(2);
  const index_t T = N < 256 ? N : 256;  // positions of a sequence
  const matrix_of original = random_tensor(1, N, H * E);
  matrix_of x = random_tensor(1, N, H * E), table(dims<2>{T, E});  // [T, E]
  for (index_t p = 0; p < T; ++p) {
    for (index_t e = 0; e < E / 2; ++e) {
      const double angle = static_cast<double>(p) *
                           std::pow(1e4, -2.0 * static_cast<double>(e) / static_cast<double>(E));
      table(p, e) = static_cast<float>(std::cos(angle));
      table(p, e + E / 2) = static_cast<float>(std::sin(angle));
    }
  }
  const view<float, dims<3>, cpu> heads(x.data(), dims<3>{N, H, E});
  const auto run = [&] {
    if (backward) {
      rope_backward(context(), heads, table.view(), T, 0);
    } else {
      rope_forward(context(), heads, table.view(), T, 0);
    }
  };
  row_bench(state, run, x, 2 * x.count(), [&](index_t n, index_t column) {
    const index_t h = column / E, e = column % E, half = E / 2;
    const double a = real(original.view()(n, h * E + e % half));
    const double b = real(original.view()(n, h * E + e % half + half));
    const double cosine = real(table(n % T, e % half));
    const double sine = (backward ? -1 : 1) * real(table(n % T, e % half + half));
    return e < half ? a * cosine - b * sine : b * cosine + a * sine;
  });
}
void rope_forward_bench(benchmark::State& state) {
  rope_bench(state, false);
}
void rope_backward_bench(benchmark::State& state) {
  rope_bench(state, true);
}

void swiglu_forward_bench(benchmark::State& state) {
  const index_t N = state.range(0), F = state.range(1);
  const matrix_of gate_up = random_tensor(1, N, 2 * F);
  matrix_of y(dims<2>{N, F});
  row_bench(
      state,
      [&] { swiglu_forward(context(), y.view(), gate_up.view()); },
      y,
      3 * y.count(),
      [&](index_t n, index_t f) {
        const double g = real(gate_up.view()(n, f));
        return g * sigmoid(g) * real(gate_up.view()(n, f + F));
      });
}

void swiglu_backward_bench(benchmark::State& state) {
  const index_t N = state.range(0), F = state.range(1);
  const matrix_of gate_up = random_tensor(1, N, 2 * F), dy = random_tensor(2, N, F);
  matrix_of d_gate_up(dims<2>{N, 2 * F});
  row_bench(
      state,
      [&] { swiglu_backward(context(), d_gate_up.view(), dy.view(), gate_up.view()); },
      d_gate_up,
      5 * dy.count(),
      [&](index_t n, index_t column) {
        const index_t f = column % F;
        const double g = real(gate_up.view()(n, f)), s = sigmoid(g), slope = real(dy.view()(n, f));
        return column < F ? slope * real(gate_up.view()(n, f + F)) * s * (1 + g * (1 - s))
                          : slope * g * s;
      });
}

void silu_residual_forward_bench(benchmark::State& state) {
  const matrix_of x = random_tensor(1, state.range(0), state.range(1));
  const matrix_of u = random_tensor(2, state.range(0), state.range(1));
  matrix_of y(x.shape());
  row_bench(
      state,
      [&] { silu_residual_forward(context(), y.view(), x.view(), u.view()); },
      y,
      3 * y.count(),
      [&](index_t n, index_t c) {
        const double g = real(u.view()(n, c));
        return real(x.view()(n, c)) + g * sigmoid(g);
      });
}

void silu_residual_backward_bench(benchmark::State& state) {
  const matrix_of dy = random_tensor(1, state.range(0), state.range(1));
  const matrix_of u = random_tensor(2, state.range(0), state.range(1));
  matrix_of du(dy.shape());
  row_bench(
      state,
      [&] { silu_residual_backward(context(), du.view(), dy.view(), u.view()); },
      du,
      3 * du.count(),
      [&](index_t n, index_t c) {
        const double g = real(u.view()(n, c)), s = sigmoid(g);
        return real(dy.view()(n, c)) * s * (1 + g * (1 - s));
      });
}

void softmax_forward_bench(benchmark::State& state) {
  const matrix_of x = random_tensor(1, state.range(0), state.range(1));
  matrix_of y(x.shape());
  row_bench(
      state,
      [&] { softmax_forward(context(), y.view(), x.view()); },
      y,
      2 * y.count(),
      [&](index_t n, index_t c) {
        double sum = 0;
        for (index_t j = 0; j < x.extent(1); ++j) {
          sum += std::exp(real(x.view()(n, j)));
        }
        return std::exp(real(x.view()(n, c))) / sum;
      });
}

void softmax_backward_bench(benchmark::State& state) {
  const matrix_of x = random_tensor(1, state.range(0), state.range(1));
  const matrix_of dy = random_tensor(2, state.range(0), state.range(1));
  matrix_of y(x.shape()), dx(x.shape());
  softmax_forward(context(), y.view(), x.view());
  row_bench(
      state,
      [&] { softmax_backward(context(), dx.view(), dy.view(), y.view()); },
      dx,
      3 * y.count(),
      [&](index_t n, index_t c) {
        double along = 0;
        for (index_t j = 0; j < x.extent(1); ++j) {
          along += real(dy.view()(n, j)) * real(y(n, j));
        }
        return real(y(n, c)) * (real(dy.view()(n, c)) - along);
      });
}

constexpr index_t vocabulary = 32000;

void embedding_forward_bench(benchmark::State& state) {
  const index_t N = state.range(0), C = state.range(1);
  weight_of table(1, vocabulary, C);
  const auto tokens = random_tokens(2, N, vocabulary);
  matrix_of x(dims<2>{N, C});
  row_bench(
      state,
      [&] { embedding_forward(context(), x.view(), table.view(), tokens.view()); },
      x,
      2 * x.count(),
      [&](index_t n, index_t c) { return real(table.view()(tokens.data()[n], c)); });
}

void embedding_backward_bench(benchmark::State& state) {
  const index_t N = state.range(0), C = state.range(1);
  const matrix_of dx = random_tensor(1, N, C);
  weight_of dtable(vocabulary, C);
  const auto tokens = random_tokens(2, N, vocabulary);
  const auto run = [&] { embedding_backward(context(), dtable.view(), dx.view(), tokens.view()); };
  run();
  const auto expected = [&](index_t i) {
    double sum = 0;
    for (index_t n = 0; n < N; ++n) {
      sum += tokens.data()[n] == tokens.data()[i / C] ? real(dx.view()(n, i % C)) : 0;
    }
    return sum;
  };
  if (near_at_samples(
          state,
          "an element of dtable",
          dx.count(),
          [&](index_t i) { return dtable.view()(tokens.data()[i / C], i % C); },
          expected)) {
    measure(state, run);
    report_elements(state, 3 * dx.count());
  }
}

void rope_shapes(benchmark::internal::Benchmark* bench) {
  bench->Args({1, 16, 64})->Args({4096, 4, 64})->Args({16384, 16, 64})->UseRealTime();
}
void embedding_shapes(benchmark::internal::Benchmark* bench) {
  bench->Args({1, 512})->Args({4096, 512})->UseRealTime();
}

BENCHMARK(rms_norm_forward_bench)->Name("rms_norm_forward")->Apply(row_shapes);
BENCHMARK(rms_norm_backward_bench)->Name("rms_norm_backward")->Apply(row_shapes);
BENCHMARK(rope_forward_bench)->Name("rope_forward")->Apply(rope_shapes);
BENCHMARK(rope_backward_bench)->Name("rope_backward")->Apply(rope_shapes);
BENCHMARK(swiglu_forward_bench)->Name("swiglu_forward")->Apply(row_shapes);
BENCHMARK(swiglu_backward_bench)->Name("swiglu_backward")->Apply(row_shapes);
BENCHMARK(silu_residual_forward_bench)->Name("silu_residual_forward")->Apply(row_shapes);
BENCHMARK(silu_residual_backward_bench)->Name("silu_residual_backward")->Apply(row_shapes);
BENCHMARK(softmax_forward_bench)->Name("softmax_forward")->Apply(row_shapes);
BENCHMARK(softmax_backward_bench)->Name("softmax_backward")->Apply(row_shapes);
BENCHMARK(embedding_forward_bench)->Name("embedding_forward")->Apply(embedding_shapes);
BENCHMARK(embedding_backward_bench)->Name("embedding_backward")->Apply(embedding_shapes);

}  // namespace
}  // namespace mtp::bench
