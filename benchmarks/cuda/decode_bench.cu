// Products of a few rows, which decoding and verifying are made of, and whole decoding cycles. A
// product of few rows has to read its weights once: shares are of what a sum over memory reads in
// the same run.
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "bench.cuh"
#include "mtp/mtp.hpp"

namespace mtp::bench {
namespace {

struct product_set {
  matrix_of<bf16> w, x;  // [N, K], [16, K]
  matrix_of<float> y;    // [16, N]

  product_set(index_t N, index_t K, std::uint64_t stream)
      : w(random_matrix<bf16>(N, K, stream)),
        x(random_matrix<bf16>(16, K, stream + 1)),
        y(dims<2>{16, N}) {}
};

template <bool DependentLaunch>
void row_product_bench(benchmark::State& state) {
  cuda_context& on = context_of(DependentLaunch);
  const index_t M = state.range(0), N = state.range(1), K = state.range(2);
  const auto each = keep<rotation<product_set>>(
      sizes_of({N, K}), static_cast<std::size_t>(N * K * 2), [&](std::uint64_t stream) {
        return product_set(N, K, stream);
      });
  auto& sets = each.made;
  const auto run = [&](product_set& s) {
    linear_forward(on,
                   s.y.view().slice(0, 0, M),
                   s.x.view().slice(0, 0, M),
                   weight_view<const bf16, cuda>(s.w.data(), N, K));
  };
  auto& s = sets.first();
  run(s);
  on.synchronize();
  const index_t m = M - 1, n = N - 3;
  const auto w = row_at(s.w, n), x = row_at(s.x, m);
  double expected = 0, magnitude = 0;
  for (std::size_t k = 0; k < w.size(); ++k) {
    const double term = static_cast<double>(w[k]) * static_cast<double>(x[k]);
    expected += term;
    magnitude += std::abs(term);
  }
  if (near_enough(state,
                  "an element of the product",
                  static_cast<double>(row_at(s.y, m, n, 1)[0]),
                  expected,
                  1e-5 * magnitude)) {
    measure_in_graph(
        state, [&] { run(sets.next()); }, sets.calls(20), on);
    report_read_bytes(state, 2.0 * static_cast<double>(N * K));
  }
}

/// 1.2 billion parameters in the trunk, 2.4 GB of bf16.
constexpr model_config model_of(head_kind head, int depth) {
  return {.vocab_size = 32768,
          .hidden_size = 2048,
          .num_hidden_layers = 24,
          .max_position_embeddings = 4096,
          .attention = {.num_attention_heads = 16, .num_key_value_heads = 4},
          .feed_forward = {.intermediate_size = 5632},
          .prediction = {.kind = head, .depth = depth}};
}

/// A model, and what writes with it, kernels in order or overlapped.
template <head_kind Head, int Depth>
struct writing {
  static constexpr model_config config = model_of(Head, Depth);
  using model_type = language_model<config, cuda, bf16>;
  using writer_type = generator<config, cuda, bf16>;

  model_type model{context(), seed{1}};
  std::unique_ptr<writer_type> writers[2] = {};

  writer_type& writer(bool dependent_launch) {
    auto& writer = writers[dependent_launch ? 1 : 0];
    if (writer == nullptr) {
      writer = std::make_unique<writer_type>(context_of(dependent_launch), model);
    }
    return *writer;
  }
};

/// Cycles of generation with a model that has learned nothing: what a cycle costs does not depend
/// on what is accepted. Tokens per second of a trained model are cycles per second times its tokens
/// per cycle.
template <head_kind Head, int Depth>
void decode_cycle_bench(benchmark::State& state) {
  using writing_type = writing<Head, Depth>;
  constexpr model_config config = writing_type::config;
  const auto mode = state.range(0) != 0 ? decode_mode::speculative : decode_mode::plain;
  auto& writer = keep<writing_type>("").made.writer(state.range(2) != 0);
  const std::vector<token_t> prompt(static_cast<std::size_t>(state.range(1)), 7);
  generate_options<bf16, cuda> options;
  options.max_new_tokens = 64;
  options.mode = decode_mode::plain;
  const auto plain = writer.generate(prompt, options).tokens;
  options.mode = mode;
  if (writer.generate(prompt, options).tokens != plain) {
    state.SkipWithError("wrong before timing: speculative and plain text differ");
    return;
  }
  double passes = 0;
  for (auto _ : state) {
    const auto& result = writer.generate(prompt, options);
    state.SetIterationTime(result.decode_seconds);
    passes += static_cast<double>(result.forward_passes);
  }
  const double weights = 2.0 * static_cast<double>(writing_type::model_type::layout.head_begin -
                                                   config.vocab_size * config.hidden_size);
  state.counters["cycles_per_second"] = benchmark::Counter(passes, benchmark::Counter::kIsRate);
  state.counters["trunk_bytes"] = weights;
  state.counters["trunk_bytes_per_second"] =
      benchmark::Counter(passes * weights, benchmark::Counter::kIsRate);
  state.counters["trunk_share_of_read"] = benchmark::Counter(
      passes * weights / known_ceilings().read_bytes, benchmark::Counter::kIsRate);
}

void modes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"speculative", "prompt", "dependent_launch"})->UseManualTime();
}

// Attention's and the feed-forward's shapes of width 2048, and the vocabulary.
BENCHMARK(reported<row_product_bench<false>>)
    ->Name("row_product")
    ->ArgsProduct({{1, 2, 4, 5, 8, 16}, {11264}, {2048}})
    ->ArgsProduct({{1, 5, 8}, {2048}, {5632}})
    ->ArgsProduct({{1, 5, 8}, {3072}, {2048}})
    ->ArgsProduct({{1, 5, 8}, {131072}, {2048}})
    ->UseManualTime();
BENCHMARK(reported<row_product_bench<true>>)
    ->Name("row_product_dependent_launch")
    ->ArgsProduct({{1, 5}, {11264}, {2048}})
    ->ArgsProduct({{1, 5}, {2048}, {5632}})
    ->ArgsProduct({{1, 5}, {131072}, {2048}})
    ->UseManualTime();
BENCHMARK(reported<decode_cycle_bench<head_kind::none, 0>>)
    ->Name("decode_cycle/none/0")
    ->ArgsProduct({{0}, {128, 2048}, {0, 1}})
    ->Apply(modes);
BENCHMARK(reported<decode_cycle_bench<head_kind::sequential, 4>>)
    ->Name("decode_cycle/sequential/4")
    ->ArgsProduct({{0, 1}, {128, 2048}, {0, 1}})
    ->Apply(modes);
BENCHMARK(reported<decode_cycle_bench<head_kind::parallel, 4>>)
    ->Name("decode_cycle/parallel/4")
    ->ArgsProduct({{0, 1}, {128}, {0, 1}})
    ->Apply(modes);

}  // namespace
}  // namespace mtp::bench
