// Causal attention over whole sequences and over a cache, with and without the rotation of queries
// and keys. Work counts what is below the diagonal: forward two products of width E for each pair
// of positions, backward five.
#include <algorithm>
#include <cmath>
#include <vector>

#include "bench.hpp"
#include "mtp/ops/attention.hpp"
#include "mtp/ops/rope_attention.hpp"

namespace mtp::bench {
namespace {

/// B sequences of T positions, H heads of width E, each with its own key and value.
struct attention_operands {
  index_t B, T, H, E;
  heads_of q, k, v, out, dout, dq, dk, dv;  // [B T, H, E]
  matrix_of statistics, table;              // [B T, 2H], [T, E]

  attention_operands(index_t batch, index_t length, index_t heads, index_t width)
      : B(batch),
        T(length),
        H(heads),
        E(width),
        q(random_tensor(1, B * T, H, E)),
        k(random_tensor(2, B * T, H, E)),
        v(random_tensor(3, B * T, H, E)),
        out(q.shape()),
        dout(random_tensor(4, B * T, H, E)),
        dq(q.shape()),
        dk(q.shape()),
        dv(q.shape()),
        statistics(dims<2>{B * T, 2 * H}),
        table(dims<2>{T, E}) {
    for (index_t p = 0; p < T; ++p) {
      for (index_t e = 0; e < E / 2; ++e) {
        const double angle = static_cast<double>(p) *
                             std::pow(1e4, -2.0 * static_cast<double>(e) / static_cast<double>(E));
        table(p, e) = static_cast<float>(std::cos(angle));
        table(p, e + E / 2) = static_cast<float>(std::sin(angle));
      }
    }
    context().reserve(
        ops_of<cpu>::attention_workspace<float>(B * T, T, H * E, H * E, E, context().threads()));
  }
  explicit attention_operands(const benchmark::State& state)
      : attention_operands(state.range(0), state.range(1), state.range(2), state.range(3)) {}

  void forward() {
    attention_forward(context(), out.view(), statistics.view(), q.view(), k.view(), v.view(), B);
  }
  void backward() {
    attention_backward(context(),
                       dq.view(),
                       dk.view(),
                       dv.view(),
                       dout.view(),
                       q.view(),
                       k.view(),
                       v.view(),
                       out.view(),
                       statistics.view(),
                       B);
  }
  void rotate_forward() {
    rope_attention_forward(
        context(), out.view(), statistics.view(), q.view(), k.view(), v.view(), table.view(), B);
  }
  void rotate_backward() {
    rope_attention_backward(context(),
                            dq.view(),
                            dk.view(),
                            dv.view(),
                            dout.view(),
                            q.view(),
                            k.view(),
                            v.view(),
                            out.view(),
                            statistics.view(),
                            table.view(),
                            B);
  }

  /// a(n, h, .) . b(s, h, .)
  double dot(const heads_of& a, index_t n, const heads_of& b, index_t s, index_t h) const {
    double sum = 0;
    for (index_t e = 0; e < E; ++e) {
      sum += real(a.view()(n, h, e)) * real(b.view()(s, h, e));
    }
    return sum;
  }
  /// Probabilities of row n over the positions of its sequence up to its own.
  std::vector<double> probabilities(index_t n, index_t h) const {
    std::vector<double> p;
    double sum = 0;
    for (index_t s = n / T * T; s <= n; ++s) {
      p.push_back(std::exp(dot(q, n, k, s, h) / std::sqrt(static_cast<double>(E))));
      sum += p.back();
    }
    for (double& each : p) {
      each /= sum;
    }
    return p;
  }
  double element_of_out(index_t n, index_t h, index_t e) const {
    const auto p = probabilities(n, h);
    double sum = 0;
    for (std::size_t s = 0; s < p.size(); ++s) {
      sum += p[s] * real(v.view()(n / T * T + static_cast<index_t>(s), h, e));
    }
    return sum;
  }
  double element_of_dq(index_t n, index_t h, index_t e) const {
    const auto p = probabilities(n, h);
    double mean = 0, sum = 0;
    for (std::size_t s = 0; s < p.size(); ++s) {
      mean += p[s] * dot(dout, n, v, n / T * T + static_cast<index_t>(s), h);
    }
    for (std::size_t s = 0; s < p.size(); ++s) {
      const index_t at = n / T * T + static_cast<index_t>(s);
      sum += p[s] * (dot(dout, n, v, at, h) - mean) * real(k.view()(at, h, e));
    }
    return sum / std::sqrt(static_cast<double>(E));
  }

  template <class Expected>
  bool is_right(benchmark::State& state, heads_of& result, const Expected& expected) const {
    return near_at_samples(
        state,
        "an element",
        result.count(),
        [&](index_t i) { return result.data()[i]; },
        [&](index_t i) { return expected(i / (H * E), i / E % H, i % E); },
        1e-4);
  }
  /// Flops of `products` products of width E for each pair of positions.
  double flops(double products) const {
    return products * 2 * static_cast<double>(B * H * E) * static_cast<double>(T * (T + 1) / 2);
  }
};

void attention_forward_bench(benchmark::State& state) {
  attention_operands o(state);
  o.forward();
  if (o.is_right(state, o.out, [&](index_t n, index_t h, index_t e) {
        return o.element_of_out(n, h, e);
      })) {
    measure(state, [&] { o.forward(); });
    report_flops(state, o.flops(2));
  }
}

void attention_backward_bench(benchmark::State& state) {
  attention_operands o(state);
  o.forward();
  o.backward();
  if (o.is_right(
          state, o.dq, [&](index_t n, index_t h, index_t e) { return o.element_of_dq(n, h, e); })) {
    measure(state, [&] { o.backward(); });
    report_flops(state, o.flops(5));
  }
}

/// The forward operation leaves rotated queries and keys behind, on which expectations rest. Timed
/// calls rotate them further.
void rope_attention_forward_bench(benchmark::State& state) {
  attention_operands o(state);
  o.rotate_forward();
  if (o.is_right(state, o.out, [&](index_t n, index_t h, index_t e) {
        return o.element_of_out(n, h, e);
      })) {
    measure(state, [&] { o.rotate_forward(); });
    report_flops(state, o.flops(2));
  }
}

void rope_attention_backward_bench(benchmark::State& state) {
  attention_operands o(state);
  o.rotate_forward();
  o.rotate_backward();
  const index_t half = o.E / 2;
  if (o.is_right(state, o.dq, [&](index_t n, index_t h, index_t e) {  // turned back
        const double a = o.element_of_dq(n, h, e % half);
        const double b = o.element_of_dq(n, h, e % half + half);
        const double cosine = real(o.table(n % o.T, e % half));
        const double sine = real(o.table(n % o.T, e % half + half));
        return e < half ? a * cosine + b * sine : b * cosine - a * sine;
      })) {
    measure(state, [&] { o.rotate_backward(); });
    report_flops(state, o.flops(5));
  }
}

/// The last M of T cached positions, again and again. A pass reads keys and values of all of them.
template <class Run>
void cached_bench(benchmark::State& state, const Run& run) {
  const index_t M = state.range(0), T = state.range(1), H = state.range(2), E = state.range(3);
  attention_operands o(1, T, H, E);
  buffer<float, cpu> storage(ops_of<cpu>::kv_storage<float>(T, H, E));
  const cache_view<float, cpu> cache{storage.data(), T, H, E};
  tensor<index_t, dims<1>, cpu> positions(dims<1>{T});
  for (index_t t = 0; t < T; ++t) {
    positions(t) = t;
  }
  run(o, cache, positions.view(), index_t{0}, T);
  // What the cache holds now are the keys that expectations need.
  if (o.is_right(state, o.out, [&](index_t n, index_t h, index_t e) {
        return o.element_of_out(n, h, e);
      })) {
    measure(state, [&] { run(o, cache, positions.view(), T - M, M); });
    report_bytes(state, 2 * 4.0 * static_cast<double>(T * H * E));
  }
}

void attention_cached_forward_bench(benchmark::State& state) {
  cached_bench(state,
               [](attention_operands& o, auto cache, auto positions, index_t first, index_t count) {
                 attention_cached_forward(context(),
                                          o.out.view().slice(0, first, count),
                                          cache,
                                          o.q.view().slice(0, first, count),
                                          o.k.view().slice(0, first, count),
                                          o.v.view().slice(0, first, count),
                                          positions.slice(0, first, count));
               });
}

void rope_attention_cached_forward_bench(benchmark::State& state) {
  cached_bench(state,
               [](attention_operands& o, auto cache, auto positions, index_t first, index_t count) {
                 rope_attention_cached_forward(context(),
                                               o.out.view().slice(0, first, count),
                                               cache,
                                               o.q.view().slice(0, first, count),
                                               o.k.view().slice(0, first, count),
                                               o.v.view().slice(0, first, count),
                                               o.table.view(),
                                               positions.slice(0, first, count));
               });
}

/// Sequences, positions, heads, width: a small model's and a larger one's.
void sequences(benchmark::internal::Benchmark* bench) {
  bench->Args({1, 32, 4, 64})->Args({16, 256, 4, 64})->Args({4, 1024, 8, 64})->UseRealTime();
}
/// Rows, cached positions, heads, width.
void caches(benchmark::internal::Benchmark* bench) {
  bench->Args({1, 512, 8, 64})->Args({4, 512, 8, 64})->Args({1, 4096, 16, 64})->UseRealTime();
}

BENCHMARK(attention_forward_bench)->Name("attention_forward")->Apply(sequences);
BENCHMARK(attention_backward_bench)->Name("attention_backward")->Apply(sequences);
BENCHMARK(rope_attention_forward_bench)->Name("rope_attention_forward")->Apply(sequences);
BENCHMARK(rope_attention_backward_bench)->Name("rope_attention_backward")->Apply(sequences);
BENCHMARK(attention_cached_forward_bench)->Name("attention_cached_forward")->Apply(caches);
BENCHMARK(rope_attention_cached_forward_bench)
    ->Name("rope_attention_cached_forward")
    ->Apply(caches);

}  // namespace
}  // namespace mtp::bench
