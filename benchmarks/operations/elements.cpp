// Element-wise operations, reductions, the optimizer, and what a growing text needs. Bound by
// memory, but for the texts, whose few rows show what starting an operation costs.
#include <algorithm>
#include <cmath>

#include "bench.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/optimizer.hpp"
#include "mtp/ops/reduce.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::bench {
namespace {

/// run(y, a, b), all of state.range(0) elements, must give expected(y, a, b) of the elements
/// before; `moved` elements move for each of them.
template <class Run, class Expected>
void element_bench(benchmark::State& state,
                   index_t moved,
                   const Run& run,
                   const Expected& expected) {
  const index_t count = state.range(0);
  const vector_of a = random_tensor(1, count), b = random_tensor(2, count);
  const vector_of before = random_tensor(3, count);
  vector_of y = random_tensor(3, count);
  run(y.view(), a.view(), b.view());
  if (near_at_samples(
          state,
          "an element",
          count,
          [&](index_t i) { return y(i); },
          [&](index_t i) {
            return expected(real(before.data()[i]), real(a.data()[i]), real(b.data()[i]));
          })) {
    measure(state, [&] { run(y.view(), a.view(), b.view()); });
    report_elements(state, moved * count);
  }
}

void fill_bench(benchmark::State& state) {
  element_bench(
      state,
      1,
      [](auto y, auto, auto) { fill(context(), y, 0.5f); },
      [](double, double, double) { return 0.5; });
}
void copy_bench(benchmark::State& state) {
  element_bench(
      state,
      2,
      [](auto y, auto a, auto) { copy(context(), y, a); },
      [](double, double a, double) { return a; });
}
void add_bench(benchmark::State& state) {
  element_bench(
      state,
      3,
      [](auto y, auto a, auto b) { add(context(), y, a, b); },
      [](double, double a, double b) { return a + b; });
}
void subtract_bench(benchmark::State& state) {
  element_bench(
      state,
      3,
      [](auto y, auto a, auto b) { subtract(context(), y, a, b); },
      [](double, double a, double b) { return a - b; });
}
void multiply_bench(benchmark::State& state) {
  element_bench(
      state,
      3,
      [](auto y, auto a, auto b) { multiply(context(), y, a, b); },
      [](double, double a, double b) { return a * b; });
}
void divide_bench(benchmark::State& state) {
  element_bench(
      state,
      3,
      [](auto y, auto a, auto b) { divide(context(), y, a, b); },
      [](double, double a, double b) { return a / b; });
}
void scale_bench(benchmark::State& state) {
  element_bench(
      state,
      2,
      [](auto y, auto a, auto) { scale(context(), y, a, 0.25f); },
      [](double, double a, double) { return 0.25 * a; });
}
void axpy_bench(benchmark::State& state) {
  element_bench(
      state,
      3,
      [](auto y, auto a, auto) { axpy(context(), y, 0.001f, a); },
      [](double y, double a, double) { return y + 0.001 * a; });
}
void transform_bench(benchmark::State& state) {
  element_bench(
      state,
      2,
      [](auto y, auto a, auto) { transform(context(), y, a, [](float x) { return x * x; }); },
      [](double, double a, double) { return a * a; });
}
void transform_two_bench(benchmark::State& state) {
  element_bench(
      state,
      3,
      [](auto y, auto a, auto b) {
        transform(context(), y, a, b, [](float u, float v) { return u * u - v; });
      },
      [](double, double a, double b) { return a * a - b; });
}

void broadcast_add_bench(benchmark::State& state) {
  const index_t N = state.range(0), C = state.range(1);
  const matrix_of x = random_tensor(1, N, C);
  const vector_of row = random_tensor(2, C);
  matrix_of y(x.shape());
  const auto run = [&] { broadcast_add(context(), y.view(), x.view(), row.view()); };
  run();
  if (near_at_samples(
          state,
          "an element",
          y.count(),
          [&](index_t i) { return y.data()[i]; },
          [&](index_t i) { return real(x.data()[i]) + real(row.data()[i % C]); })) {
    measure(state, run);
    report_elements(state, 2 * x.count());
  }
}

/// run(y, x) reduces the rows of x; fold(so far, element, column) says how.
template <class Result, class Run, class Fold>
void reduce_bench(benchmark::State& state, double start, const Run& run, const Fold& fold) {
  const index_t N = state.range(0), C = state.range(1);
  const matrix_of x = random_tensor(1, N, C);
  tensor<Result, dims<1>, cpu> y(dims<1>{N});
  run(y.view(), x.view());
  if (near_at_samples(
          state,
          "a row's result",
          N,
          [&](index_t n) { return y(n); },
          [&](index_t n) {
            double result = start;
            for (index_t c = 0; c < C; ++c) {
              result = fold(result, real(x.view()(n, c)), c, n, x);
            }
            return result;
          },
          1e-4)) {
    measure(state, [&] { run(y.view(), x.view()); });
    report_elements(state, x.count());
  }
}

void sum_bench(benchmark::State& state) {
  reduce_bench<float>(
      state,
      0,
      [](auto y, auto x) { sum(context(), y, x); },
      [](double so_far, double x, index_t, index_t, const matrix_of&) { return so_far + x; });
}
void mean_bench(benchmark::State& state) {
  reduce_bench<float>(
      state,
      0,
      [](auto y, auto x) { mean(context(), y, x); },
      [](double so_far, double x, index_t, index_t, const matrix_of& all) {
        return so_far + x / static_cast<double>(all.extent(1));
      });
}
void maximum_bench(benchmark::State& state) {
  reduce_bench<float>(
      state,
      -2,
      [](auto y, auto x) { maximum(context(), y, x); },
      [](double so_far, double x, index_t, index_t, const matrix_of&) {
        return (std::max)(so_far, x);
      });
}
void minimum_bench(benchmark::State& state) {
  reduce_bench<float>(
      state,
      2,
      [](auto y, auto x) { minimum(context(), y, x); },
      [](double so_far, double x, index_t, index_t, const matrix_of&) {
        return (std::min)(so_far, x);
      });
}
void argmax_bench(benchmark::State& state) {
  reduce_bench<token_t>(
      state,
      0,
      [](auto y, auto x) { argmax(context(), y, x); },
      [](double so_far, double x, index_t c, index_t n, const matrix_of& all) {
        return x > real(all.view()(n, static_cast<index_t>(so_far))) ? static_cast<double>(c)
                                                                     : so_far;
      });
}

void sum_of_squares_bench(benchmark::State& state) {
  const vector_of x = random_tensor(1, state.range(0));
  tensor<double, dims<1>, cpu> result(dims<1>{1});
  const auto run = [&] { sum_of_squares(context(), result.view(), x.view()); };
  run();
  double expected = 0;
  for (index_t i = 0; i < x.count(); ++i) {
    expected += real(x.data()[i]) * real(x.data()[i]);
  }
  if (near_enough(state, "the sum", result(0), expected, 1e-6 * expected)) {
    measure(state, run);
    report_elements(state, x.count());
  }
}

void adamw_update_bench(benchmark::State& state) {
  const index_t count = state.range(0);
  const vector_of before = random_tensor(1, count), gradient = random_tensor(2, count);
  vector_of value = random_tensor(1, count), first(dims<1>{count}), second(dims<1>{count});
  tensor<adamw_range, dims<1>, cpu> ranges(dims<1>{ceil_div(count, adamw_range_elements)});
  for (index_t r = 0; r < ranges.count(); ++r) {
    const index_t begin = r * adamw_range_elements;
    ranges(r) = {
        begin, static_cast<std::int32_t>((std::min)(adamw_range_elements, count - begin)), 1};
  }
  const adamw_coefficients how{.learning_rate = 1e-3,
                               .beta1 = 0.9,
                               .beta2 = 0.95,
                               .epsilon = 1e-8,
                               .weight_decay = 0.1,
                               .gradient_scale = 0.5,
                               .correction1 = 0.1,
                               .correction2 = 0.05};
  const auto run = [&] {
    adamw_update(context(),
                 value.view(),
                 value.view(),
                 first.view(),
                 second.view(),
                 gradient.view(),
                 ranges.view(),
                 how);
  };
  run();
  if (near_at_samples(
          state,
          "a weight",
          count,
          [&](index_t i) { return value(i); },
          [&](index_t i) {  // the first step goes by the sign of the gradient
            const double w = real(before.data()[i]), g = real(gradient.data()[i]);
            return w - 1e-3 * (0.1 * w + (g > 0 ? 1 : -1));
          })) {
    measure(state, run);
    report_elements(state, 7 * count);  // three arrays read and written, one read
  }
}

/// A text of 256 confirmed tokens behind which four drafts stand.
struct sequence_memory {
  tensor<token_t, dims<1>, cpu> tokens = random_tokens(1, 512, 256);
  tensor<index_t, dims<1>, cpu> state{dims<1>{sequence_states}};

  sequence_memory() { state(sequence_count) = 256; }
  sequence_view<cpu> view() { return {tokens.view(), state.view()}; }
};

void select_rows_bench(benchmark::State& state) {
  sequence_memory text;
  tensor<index_t, dims<1>, cpu> positions(dims<1>{state.range(0)});
  tensor<token_t, dims<1>, cpu> ids(dims<1>{state.range(0)});
  const auto run = [&] {
    select_rows(context(), positions.view(), ids.view(), text.view(), -1, 0);
  };
  run();
  if (near_enough(state, "a position", static_cast<double>(positions(0)), 255, 0) &&
      near_enough(state, "a token", ids(0), text.tokens(255), 0)) {
    measure(state, run);
  }
}

void ring_rows_bench(benchmark::State& state, bool store) {
  const index_t M = state.range(0), C = state.range(1), R = 128, first = R - 2;
  matrix_of ring = random_tensor(1, R, C), rows = random_tensor(2, M, C);
  tensor<index_t, dims<1>, cpu> positions(dims<1>{M});
  for (index_t m = 0; m < M; ++m) {
    positions(m) = first + m;
  }
  const auto run = [&] {
    if (store) {
      store_rows(context(), ring.view(), rows.view(), positions.view());
    } else {
      load_rows(context(), rows.view(), ring.view(), positions.view());
    }
  };
  run();
  if (near_at_samples(
          state,
          "an element of a row",
          M * C,
          [&](index_t i) { return rows(i / C, i % C); },
          [&](index_t i) { return real(ring((first + i / C) % R, i % C)); },
          0)) {
    measure(state, run);
    report_elements(state, 2 * rows.count());
  }
}
void store_rows_bench(benchmark::State& state) {
  ring_rows_bench(state, true);
}
void load_rows_bench(benchmark::State& state) {
  ring_rows_bench(state, false);
}

void append_drafts_bench(benchmark::State& state) {
  sequence_memory text;
  const auto drafts = random_tokens(2, state.range(0), 256);
  const auto run = [&] { append_drafts(context(), text.view(), drafts.view(), 0); };
  run();
  if (near_enough(state, "a draft", text.tokens(256), drafts.data()[0], 0)) {
    measure(state, run);
  }
}

/// All drafts are accepted; the count is set back each time.
void accept_drafts_bench(benchmark::State& state) {
  sequence_memory text;
  tensor<token_t, dims<1>, cpu> predicted(dims<1>{state.range(0)});
  std::copy_n(text.tokens.data() + 256, predicted.count(), predicted.data());
  const auto run = [&] {
    text.state(sequence_count) = 256;
    accept_drafts(context(), text.view(), predicted.view(), 500);
  };
  run();
  if (near_enough(state,
                  "the number of confirmed tokens",
                  static_cast<double>(text.state(sequence_count)),
                  256.0 + static_cast<double>(state.range(0)),
                  0)) {
    measure(state, run);
  }
}

/// In the innermost cache, in the outer ones, and beyond most.
void counts(benchmark::internal::Benchmark* bench) {
  bench->Arg(1 << 12)->Arg(1 << 18)->Arg(1 << 25)->UseRealTime();
}
BENCHMARK(fill_bench)->Name("fill")->Apply(counts);
BENCHMARK(copy_bench)->Name("copy")->Apply(counts);
BENCHMARK(add_bench)->Name("add")->Apply(counts);
BENCHMARK(subtract_bench)->Name("subtract")->Apply(counts);
BENCHMARK(multiply_bench)->Name("multiply")->Apply(counts);
BENCHMARK(divide_bench)->Name("divide")->Apply(counts);
BENCHMARK(scale_bench)->Name("scale")->Apply(counts);
BENCHMARK(axpy_bench)->Name("axpy")->Apply(counts);
BENCHMARK(transform_bench)->Name("transform_one_input")->Apply(counts);
BENCHMARK(transform_two_bench)->Name("transform_two_inputs")->Apply(counts);
BENCHMARK(broadcast_add_bench)->Name("broadcast_add")->Apply(row_shapes);
BENCHMARK(sum_bench)->Name("sum")->Apply(row_shapes);
BENCHMARK(mean_bench)->Name("mean")->Apply(row_shapes);
BENCHMARK(maximum_bench)->Name("maximum")->Apply(row_shapes);
BENCHMARK(minimum_bench)->Name("minimum")->Apply(row_shapes);
BENCHMARK(argmax_bench)->Name("argmax")->Apply(row_shapes);
BENCHMARK(sum_of_squares_bench)->Name("sum_of_squares")->Apply(counts);
BENCHMARK(adamw_update_bench)->Name("adamw_update")->Apply(counts);
BENCHMARK(select_rows_bench)->Name("select_rows")->Arg(5)->UseRealTime();
BENCHMARK(store_rows_bench)->Name("store_rows")->Args({5, 512})->UseRealTime();
BENCHMARK(load_rows_bench)->Name("load_rows")->Args({5, 512})->UseRealTime();
BENCHMARK(append_drafts_bench)->Name("append_drafts")->Arg(4)->UseRealTime();
BENCHMARK(accept_drafts_bench)->Name("accept_drafts")->Arg(5)->UseRealTime();

}  // namespace
}  // namespace mtp::bench
