// Operations that hold a product inside: the output matrix with its loss, the projection of
// sequential modules; and the most likely token of a row of logits.
#include <algorithm>
#include <cmath>

#include "bench.hpp"
#include "mtp/ops/combine.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"

namespace mtp::bench {
namespace {

/// R rows of width C, a vocabulary of V, one target each.
struct loss_operands {
  index_t R, V, C;
  matrix_of hidden, dhidden;                         // [R, C]
  weight_of w, dw;                                   // [V, C]
  matrix_of losses, weights;                         // [R, 1]
  tensor<token_t, dims<1>, cpu> targets, predicted;  // [R]

  explicit loss_operands(const benchmark::State& state)
      : R(state.range(0)),
        V(state.range(1)),
        C(state.range(2)),
        hidden(random_tensor(1, R, C)),
        dhidden(dims<2>{R, C}),
        w(2, V, C),
        dw(V, C),
        losses(dims<2>{R, 1}),
        weights(dims<2>{R, 1}),
        targets(random_tokens(3, R, V)),
        predicted(dims<1>{R}) {
    std::fill_n(weights.data(), R, 1.0f / static_cast<float>(R));
    context().reserve(
        ops_of<cpu>::linear_cross_entropy_workspace<float>(R, V, C, context().threads()));
  }
  auto targets_view() { return targets.view().reshape(dims<2>{R, 1}); }

  double logit(index_t r, index_t v) {
    double sum = 0;
    for (index_t c = 0; c < C; ++c) {
      sum += real(hidden(r, c)) * real(w.view()(v, c));
    }
    return sum;
  }
  bool is_right(benchmark::State& state) {
    return near_at_samples(
        state,
        "a loss",
        R,
        [&](index_t r) { return losses(r, 0); },
        [&](index_t r) {
          double sum = 0;
          for (index_t v = 0; v < V; ++v) {
            sum += std::exp(logit(r, v));
          }
          return std::log(sum) - logit(r, targets(r));
        },
        1e-4);
  }
  double flops(double products) const {
    return products * 2 * static_cast<double>(R) * static_cast<double>(V) * static_cast<double>(C);
  }
};

/// Logits, their gradient by hidden, their gradient by W: three products.
void linear_cross_entropy_bench(benchmark::State& state) {
  loss_operands o(state);
  const auto run = [&] {
    linear_cross_entropy(context(),
                         o.losses.view(),
                         o.predicted.view(),
                         o.dhidden.view(),
                         o.dw.view(),
                         o.hidden.view(),
                         o.w.view(),
                         o.targets_view(),
                         o.weights.view());
  };
  run();
  if (o.is_right(state)) {
    measure(state, run);
    report_flops(state, o.flops(3));
  }
}

void linear_cross_entropy_forward_bench(benchmark::State& state) {
  loss_operands o(state);
  const auto run = [&] {
    linear_cross_entropy_forward(context(),
                                 o.losses.view(),
                                 o.predicted.view(),
                                 o.hidden.view(),
                                 o.w.view(),
                                 o.targets_view());
  };
  run();
  if (o.is_right(state)) {
    measure(state, run);
    report_flops(state, o.flops(1));
  }
}

void predict_bench(benchmark::State& state) {
  const matrix_of logits = random_tensor(1, state.range(0), state.range(1));
  tensor<token_t, dims<1>, cpu> predicted(dims<1>{state.range(0)});
  const auto run = [&] { predict(context(), predicted.view(), logits.view()); };
  run();
  if (near_at_samples(
          state,
          "a token",
          predicted.count(),
          [&](index_t n) { return predicted(n); },
          [&](index_t n) {
            const float* const row = logits.data() + n * state.range(1);
            return static_cast<double>(std::max_element(row, row + state.range(1)) - row);
          },
          0)) {
    measure(state, run);
    report_elements(state, logits.count());
  }
}

/// N rows of width C, projected from 2C to C.
struct combine_operands {
  static constexpr index_t V = 256;
  index_t N, C;
  matrix_of hidden, dhidden, y, dy;                                            // [N, C]
  vector_of hidden_scale, embedding_scale, d_hidden_scale, d_embedding_scale;  // [C]
  vector_of inv_hidden, inv_embedding;                                         // [N]
  weight_of table, dtable;                                                     // [V, C]
  weight_of projection, dprojection;                                           // [C, 2C]
  tensor<token_t, dims<1>, cpu> tokens;                                        // [N]

  explicit combine_operands(const benchmark::State& state)
      : N(state.range(0)),
        C(state.range(1)),
        hidden(random_tensor(1, N, C)),
        dhidden(dims<2>{N, C}),
        y(dims<2>{N, C}),
        dy(random_tensor(2, N, C)),
        hidden_scale(random_tensor(3, C)),
        embedding_scale(random_tensor(4, C)),
        d_hidden_scale(dims<1>{C}),
        d_embedding_scale(dims<1>{C}),
        inv_hidden(dims<1>{N}),
        inv_embedding(dims<1>{N}),
        table(5, V, C),
        dtable(V, C),
        projection(6, C, 2 * C),
        dprojection(C, 2 * C),
        tokens(random_tokens(7, N, V)) {
    context().reserve(ops_of<cpu>::combine_workspace<float>(N, C, C, V, context().threads()));
  }
  void forward() {
    combine_forward(context(),
                    y.view(),
                    inv_hidden.view(),
                    inv_embedding.view(),
                    hidden.view(),
                    table.view(),
                    tokens.view(),
                    hidden_scale.view(),
                    embedding_scale.view(),
                    projection.view(),
                    concat_order::hidden_first,
                    norm_epsilon);
  }
  void backward() {
    combine_backward(context(),
                     dhidden.view(),
                     d_hidden_scale.view(),
                     d_embedding_scale.view(),
                     dprojection.view(),
                     dtable.view(),
                     dy.view(),
                     hidden.view(),
                     inv_hidden.view(),
                     inv_embedding.view(),
                     table.view(),
                     tokens.view(),
                     hidden_scale.view(),
                     embedding_scale.view(),
                     projection.view(),
                     concat_order::hidden_first);
  }
  /// The concatenated normed rows that the projection gets, at row n and column c.
  double input(index_t n, index_t c) {
    const bool first = c < C;
    const index_t at = first ? c : c - C;
    const auto element = [&](index_t j) {
      return first ? real(hidden(n, j)) : real(table.view()(tokens(n), j));
    };
    double squares = 0;
    for (index_t j = 0; j < C; ++j) {
      squares += element(j) * element(j);
    }
    return element(at) * real(first ? hidden_scale(at) : embedding_scale(at)) /
           std::sqrt(squares / static_cast<double>(C) + norm_epsilon);
  }
  double flops(double products) const {
    return products * 4 * static_cast<double>(N) * static_cast<double>(C) * static_cast<double>(C);
  }
};

void combine_forward_bench(benchmark::State& state) {
  combine_operands o(state);
  o.forward();
  if (near_at_samples(
          state,
          "an element of y",
          o.y.count(),
          [&](index_t i) { return o.y.data()[i]; },
          [&](index_t i) {
            double sum = 0;
            for (index_t c = 0; c < 2 * o.C; ++c) {
              sum += real(o.projection.view()(i % o.C, c)) * o.input(i / o.C, c);
            }
            return sum;
          },
          1e-4)) {
    measure(state, [&] { o.forward(); });
    report_flops(state, o.flops(1));
  }
}

void combine_backward_bench(benchmark::State& state) {
  combine_operands o(state);
  o.forward();
  o.backward();
  if (near_enough(
          state,
          "an element of dprojection",
          real(o.dprojection.view()(o.C - 1, o.C + 1)),
          [&] {
            double sum = 0;
            for (index_t n = 0; n < o.N; ++n) {
              sum += real(o.dy(n, o.C - 1)) * o.input(n, o.C + 1);
            }
            return sum;
          }(),
          1e-2)) {
    measure(state, [&] { o.backward(); });
    report_flops(state, o.flops(2));
  }
}

/// Rows, vocabulary, width: bytes, and a vocabulary of words.
void losses(benchmark::internal::Benchmark* bench) {
  bench->Args({4096, 256, 256})->Args({1024, 32000, 512})->UseRealTime();
}

BENCHMARK(linear_cross_entropy_bench)->Name("linear_cross_entropy")->Apply(losses);
BENCHMARK(linear_cross_entropy_forward_bench)->Name("linear_cross_entropy_forward")->Apply(losses);
BENCHMARK(predict_bench)->Name("predict")->Args({1, 32000})->Args({5, 32000})->UseRealTime();
BENCHMARK(combine_forward_bench)
    ->Name("combine_forward")
    ->Args({1, 512})
    ->Args({4096, 256})
    ->UseRealTime();
BENCHMARK(combine_backward_bench)->Name("combine_backward")->Args({4096, 256})->UseRealTime();

}  // namespace
}  // namespace mtp::bench
