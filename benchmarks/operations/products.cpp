// Products: linear maps, their gradients, and matmul. Beside them Eigen's own product, of which
// each thread computes a part.
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "bench.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/matmul.hpp"
#include "mtp/ops/quantize.hpp"

namespace mtp::bench {
namespace {

struct product_operands {
  index_t M, N, K;
  matrix_of x, y;  // [M, K], [M, N]
  weight_of w;     // [N, K]

  explicit product_operands(const benchmark::State& state)
      : M(state.range(0)),
        N(state.range(1)),
        K(state.range(2)),
        x(random_tensor(1, M, K)),
        y(random_tensor(2, M, N)),
        w(3, N, K) {}
};

/// sum over i < count of a(i) b(i)
template <class A, class B>
double dot(index_t count, const A& a, const B& b) {
  double sum = 0;
  for (index_t i = 0; i < count; ++i) {
    sum += static_cast<double>(a(i)) * static_cast<double>(b(i));
  }
  return sum;
}

/// Runs once, compares `result`, whose rows have `columns` elements, with expected(row, column),
/// and times run(). Of few rows the bytes count: each weight, of `weight_bytes`, is read once.
template <class Run, class Result, class Expected>
void product_bench(benchmark::State& state,
                   const Run& run,
                   index_t rows,
                   index_t columns,
                   const Result& result,
                   const Expected& expected,
                   double weight_bytes = sizeof(float),
                   double tolerance = 1e-4) {
  run();
  const bool right = near_at_samples(
      state,
      "an element of the product",
      rows * columns,
      [&](index_t i) { return result(i / columns, i % columns); },
      [&](index_t i) { return expected(i / columns, i % columns); },
      tolerance);
  if (!right) {
    return;
  }
  measure(state, run);
  const auto M = static_cast<double>(state.range(0)), N = static_cast<double>(state.range(1)),
             K = static_cast<double>(state.range(2));
  report_flops(state, 2 * M * N * K);
  if (M <= 8) {
    report_bytes(state, weight_bytes * N * K);
  }
}

double element_of_forward(product_operands& o, index_t m, index_t n) {
  const auto w = o.w.view();
  return dot(
      o.K, [&](index_t k) { return o.x(m, k); }, [&](index_t k) { return w(n, k); });
}
double element_of_backward_input(product_operands& o, index_t m, index_t k) {
  const auto w = o.w.view();
  return dot(
      o.N, [&](index_t n) { return o.y(m, n); }, [&](index_t n) { return w(n, k); });
}
double element_of_backward_weight(product_operands& o, index_t n, index_t k) {
  return dot(
      o.M, [&](index_t m) { return o.y(m, n); }, [&](index_t m) { return o.x(m, k); });
}

void linear_forward_bench(benchmark::State& state) {
  product_operands o(state);
  product_bench(
      state,
      [&] { linear_forward(context(), o.y.view(), o.x.view(), o.w.view()); },
      o.M,
      o.N,
      o.y.view(),
      [&](index_t m, index_t n) { return element_of_forward(o, m, n); });
}

/// An element of the product with weights as they are in 8 bits (ops/quantize.hpp).
double element_of_quantized(product_operands& o, index_t m, index_t n) {
  constexpr index_t group = 128;
  const auto w = o.w.view();
  double sum = 0;
  for (index_t first = 0; first < o.K; first += group) {
    const index_t end = (std::min)(first + group, o.K);
    double largest = 0;
    for (index_t k = first; k < end; ++k) {
      largest = (std::max)(largest, std::abs(real(w(n, k))));
    }
    bf16 scale(static_cast<float>(largest / 127));
    if (static_cast<double>(scale) < largest / 127) {
      scale = bf16::from_bits(static_cast<std::uint16_t>(scale.bits() + 1));
    }
    for (index_t k = first; k < end; ++k) {
      const auto unit = static_cast<double>(scale);
      sum += std::nearbyint(real(w(n, k)) / unit) * unit * real(o.x(m, k));
    }
  }
  return sum;
}

/// Weights in 8 bits.
void linear_forward_quantized_bench(benchmark::State& state) {
  product_operands o(state);
  const index_t bytes = quantized_weight_bytes<cpu>(o.N, o.K);
  buffer<std::byte, cpu> quantized(bytes);
  quantize_weight(
      context(), vector_view<std::byte, cpu>(quantized.data(), dims<1>{bytes}), o.w.view());
  const weight_view<const float, cpu> w(nullptr, o.N, o.K, quantized.data());
  product_bench(
      state,
      [&] { linear_forward(context(), o.y.view(), o.x.view(), w); },
      o.M,
      o.N,
      o.y.view(),
      [&](index_t m, index_t n) { return element_of_quantized(o, m, n); },
      static_cast<double>(bytes) / static_cast<double>(o.N * o.K),
      // Rows are rounded to 1 / 65024: of 1024 products, 1.6e-4 (root of the mean square).
      1e-3);
}

/// Rows and weights of bf16, as a model for decoding may have them.
void linear_forward_bf16_bench(benchmark::State& state) {
  product_operands o(state);
  tensor<bf16, dims<2>, cpu> x(dims<2>(o.M, o.K)), y(dims<2>(o.M, o.N));  // [M, K], [M, N]
  buffer<bf16, cpu> elements(backend_traits<cpu>::weight_storage<bf16>(o.N, o.K));
  const weight_view<bf16, cpu> w(elements.data(), o.N, o.K);
  for (index_t i = 0; i < x.count(); ++i) {
    x.data()[i] = bf16(o.x.data()[i]);
    o.x.data()[i] = x.data()[i];
  }
  for (index_t n = 0; n < o.N; ++n) {
    for (index_t k = 0; k < o.K; ++k) {
      w(n, k) = bf16(o.w.view()(n, k));
      o.w.view()(n, k) = w(n, k);
    }
  }
  product_bench(
      state,
      [&] { linear_forward(context(), y.view(), x.view(), weight_view<const bf16, cpu>(w)); },
      o.M,
      o.N,
      y.view(),
      [&](index_t m, index_t n) { return element_of_forward(o, m, n); },
      sizeof(bf16),
      5e-3);  // the result is rounded to 8 bits
}

void linear_bias_forward_bench(benchmark::State& state) {
  product_operands o(state);
  const vector_of bias = random_tensor(4, o.N);
  product_bench(
      state,
      [&] { linear_bias_forward(context(), o.y.view(), o.x.view(), o.w.view(), bias.view()); },
      o.M,
      o.N,
      o.y.view(),
      [&](index_t m, index_t n) {
        return static_cast<double>(bias.data()[n]) + element_of_forward(o, m, n);
      });
}

void linear_add_forward_bench(benchmark::State& state) {
  product_operands o(state);
  const matrix_of residual = random_tensor(4, o.M, o.N);
  product_bench(
      state,
      [&] { linear_add_forward(context(), o.y.view(), o.x.view(), o.w.view(), residual.view()); },
      o.M,
      o.N,
      o.y.view(),
      [&](index_t m, index_t n) {
        return static_cast<double>(residual.view()(m, n)) + element_of_forward(o, m, n);
      });
}

void linear_backward_input_bench(benchmark::State& state) {
  product_operands o(state);
  product_bench(
      state,
      [&] { linear_backward_input(context(), o.x.view(), o.y.view(), o.w.view()); },
      o.M,
      o.K,
      o.x.view(),
      [&](index_t m, index_t k) { return element_of_backward_input(o, m, k); });
}

void linear_add_backward_input_bench(benchmark::State& state) {
  product_operands o(state);
  const matrix_of residual = random_tensor(4, o.M, o.K);
  product_bench(
      state,
      [&] {
        linear_add_backward_input(context(), o.x.view(), o.y.view(), o.w.view(), residual.view());
      },
      o.M,
      o.K,
      o.x.view(),
      [&](index_t m, index_t k) {
        return static_cast<double>(residual.view()(m, k)) + element_of_backward_input(o, m, k);
      });
}

void linear_backward_weight_bench(benchmark::State& state) {
  product_operands o(state);
  weight_of dw(o.N, o.K);
  product_bench(
      state,
      [&] { linear_backward_weight(context(), dw.view(), o.y.view(), o.x.view()); },
      o.N,
      o.K,
      dw.view(),
      [&](index_t n, index_t k) { return element_of_backward_weight(o, n, k); });
}

void linear_backward_bias_bench(benchmark::State& state) {
  const matrix_of dy = random_tensor(1, state.range(0), state.range(1));
  vector_of dbias(dims<1>{state.range(1)});
  const auto run = [&] { linear_backward_bias(context(), dbias.view(), dy.view()); };
  run();
  const bool right = near_at_samples(
      state,
      "an element of dbias",
      dbias.count(),
      [&](index_t n) { return dbias(n); },
      [&](index_t n) {
        return dot(
            state.range(0), [&](index_t m) { return dy.view()(m, n); }, [](index_t) { return 1; });
      },
      1e-4);
  if (right) {
    measure(state, run);
    report_elements(state, dy.count());
  }
}

void matmul_bench(benchmark::State& state) {
  const index_t M = state.range(0), N = state.range(1), K = state.range(2);
  const matrix_of a = random_tensor(1, M, K), b = random_tensor(2, K, N);
  matrix_of c(dims<2>{M, N});
  product_bench(
      state,
      [&] { matmul(context(), c.view(), a.view(), b.view()); },
      M,
      N,
      c.view(),
      [&](index_t m, index_t n) {
        return dot(
            K,
            [&](index_t k) { return a.view()(m, k); },
            [&](index_t k) { return b.view()(k, n); });
      });
}

using eigen_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// y = x W^T with Eigen's product and W in rows: each thread computes an equal share of the columns
/// of y.
void eigen_product_bench(benchmark::State& state) {
  product_operands o(state);
  eigen_matrix w(o.N, o.K);
  const auto panels = o.w.view();
  for (index_t n = 0; n < o.N; ++n) {
    for (index_t k = 0; k < o.K; ++k) {
      w(n, k) = panels(n, k);
    }
  }
  const Eigen::Map<const eigen_matrix> x(o.x.data(), o.M, o.K);
  Eigen::Map<eigen_matrix> y(o.y.data(), o.M, o.N);
  const index_t part = ceil_div(o.N, context().threads());
  product_bench(
      state,
      [&] {
        context().parallel_ranges(o.N, part, [&](index_t begin, index_t end, int) {
          const index_t count = end - begin;
          y.middleCols(begin, count).noalias() = x * w.middleRows(begin, count).transpose();
        });
      },
      o.M,
      o.N,
      o.y.view(),
      [&](index_t m, index_t n) { return element_of_forward(o, m, n); });
}

/// For the picture over sizes.
void squares(benchmark::internal::Benchmark* bench) {
  for (const index_t n : {32, 64, 128, 256, 512, 1024, 2048}) {
    bench->Args({n, n, n});
  }
}
/// 4096 tokens of a model of width 256, then 2048 of one of width 1024.
void training_shapes(benchmark::internal::Benchmark* bench) {
  for (const auto& shape : {std::array<index_t, 3>{4096, 768, 256},
                            {4096, 1408, 256},
                            {4096, 256, 704},
                            {2048, 4096, 1024}}) {
    bench->Args({shape[0], shape[1], shape[2]});
  }
}
/// Rows of a decoding pass.
void decoding_shapes(benchmark::internal::Benchmark* bench) {
  for (const index_t rows : {1, 2, 4, 8}) {
    bench->Args({rows, 4096, 1024});
  }
  bench->Args({1, 32000, 512})->Args({4, 32000, 512});
}
void one_shape(benchmark::internal::Benchmark* bench) {
  bench->Args({4096, 256, 256});
}

BENCHMARK(linear_forward_bench)
    ->Name("linear_forward")
    ->Apply(squares)
    ->Apply(training_shapes)
    ->Apply(decoding_shapes)
    ->UseRealTime();
BENCHMARK(linear_forward_bf16_bench)
    ->Name("linear_forward_bf16")
    ->Apply(decoding_shapes)
    ->UseRealTime();
BENCHMARK(linear_forward_quantized_bench)
    ->Name("linear_forward_quantized")
    ->Apply(decoding_shapes)
    ->UseRealTime();
BENCHMARK(eigen_product_bench)
    ->Name("eigen_product")
    ->Apply(squares)
    ->Apply(training_shapes)
    ->Apply(decoding_shapes)
    ->UseRealTime();
BENCHMARK(linear_bias_forward_bench)->Name("linear_bias_forward")->Apply(one_shape)->UseRealTime();
BENCHMARK(linear_add_forward_bench)->Name("linear_add_forward")->Apply(one_shape)->UseRealTime();
BENCHMARK(linear_backward_input_bench)
    ->Name("linear_backward_input")
    ->Apply(training_shapes)
    ->UseRealTime();
BENCHMARK(linear_add_backward_input_bench)
    ->Name("linear_add_backward_input")
    ->Apply(one_shape)
    ->UseRealTime();
BENCHMARK(linear_backward_weight_bench)
    ->Name("linear_backward_weight")
    ->Apply(training_shapes)
    ->UseRealTime();
BENCHMARK(linear_backward_bias_bench)
    ->Name("linear_backward_bias")
    ->Args({4096, 768})
    ->UseRealTime();
BENCHMARK(matmul_bench)
    ->Name("matmul")
    ->Args({256, 256, 256})
    ->Args({1024, 1024, 1024})
    ->UseRealTime();

}  // namespace
}  // namespace mtp::bench
