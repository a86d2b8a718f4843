// A training step in bf16 for growing depth: time over that of depth 0, beside the ratio of
// floating-point operations.
#include <cstdint>
#include <memory>
#include <vector>

#include "bench.cuh"
#include "model_cost.hpp"
#include "mtp/mtp.hpp"

namespace mtp::bench {
namespace {

constexpr model_config model_of(head_kind head, int depth) {
  return {.vocab_size = 32768,
          .hidden_size = 1024,
          .num_hidden_layers = 12,
          .max_position_embeddings = 1024,
          .attention = {.num_attention_heads = 8, .num_key_value_heads = 2},
          .feed_forward = {.intermediate_size = 2816},
          .prediction = {.kind = head, .depth = depth}};
}

template <head_kind Head, int Depth>
void train_step_bench(benchmark::State& state) {
  constexpr model_config config = model_of(Head, Depth);
  using trainer_type = trainer<config, cuda, bf16>;
  constexpr index_t length = 1024, batch = 16;
  std::vector<std::uint8_t> text(1 << 22);
  const random_stream random(seed{1}, 0);
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<std::uint8_t>(random.bits(i));
  }
  const dataset<> data(std::move(text), {}, {.window = trainer_type::window_of(length)});
  const auto model = std::make_unique<language_model<config, cuda, bf16>>(context(), seed{1});
  trainer_type run(context(), *model, data, {.batch = batch, .length = length});
  const double first = run.step().loss.depths[0].loss;
  // Before training, each of V tokens is about as likely as any other.
  if (!near_enough(state, "the first loss", first, 10.9, 0.8)) {
    return;
  }
  stopwatch watch;
  for (auto _ : state) {
    state.SetIterationTime(watch.seconds([&] { run.step(); }));
  }
  const double tokens = static_cast<double>(batch * length);
  const double flops = tokens * training_flops_per_token(config, length);
  report_flops(state, flops);
  state.counters["tokens_per_second"] =
      benchmark::Counter(tokens, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["flops_over_depth_0"] =
      flops / (tokens * training_flops_per_token(model_of(head_kind::none, 0), length));
}

// A fixed number of steps: the function, which makes a model, runs once.
void steps(benchmark::internal::Benchmark* bench) {
  bench->UseManualTime()->Iterations(10);
}

BENCHMARK(reported<train_step_bench<head_kind::none, 0>>)->Name("train_step/none/0")->Apply(steps);
BENCHMARK(reported<train_step_bench<head_kind::sequential, 1>>)
    ->Name("train_step/sequential/1")
    ->Apply(steps);
BENCHMARK(reported<train_step_bench<head_kind::sequential, 4>>)
    ->Name("train_step/sequential/4")
    ->Apply(steps);
BENCHMARK(reported<train_step_bench<head_kind::parallel, 3>>)
    ->Name("train_step/parallel/3")
    ->Apply(steps);

}  // namespace
}  // namespace mtp::bench
