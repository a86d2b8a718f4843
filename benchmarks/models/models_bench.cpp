// Training steps and decoding of whole models: per head kind, against depth, and the price of
// verifying several tokens in one pass. The time of an iteration is that of both sides of a
// comparison together; counters have medians of steps that ran one by one.
#include <benchmark/benchmark.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "bench.hpp"
#include "model_cost.hpp"
#include "models.hpp"

namespace mtp::bench {
namespace {

double seconds_of_step(training_run& run) {
  const auto start = std::chrono::steady_clock::now();
  run.step();
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  return spent.count();
}

/// Takes turns with a model without heads, so that the machine's mood meets both.
void train_step_bench(benchmark::State& state, head_kind head, int depth) {
  const auto run = make_training(head, depth, context().threads());
  const auto plain = make_training(head_kind::none, 0, context().threads());
  // Before training, each of 256 tokens is about as likely as any other.
  if (!near_enough(state, "the first loss", run->step(), 5.55, 1.0)) {
    return;
  }
  seconds_of_step(*plain);
  std::vector<double> times, ratios;
  for (auto _ : state) {
    const double base = seconds_of_step(*plain);
    times.push_back(seconds_of_step(*run));
    ratios.push_back(times.back() / base);
  }
  const double seconds = median(times);
  state.counters["ms"] = 1e3 * seconds;
  state.counters["tokens_per_second"] = static_cast<double>(run->tokens()) / seconds;
  state.counters["GFLOP/s"] = run->flops() / seconds / 1e9;
  state.counters["share_of_peak"] = run->flops() / seconds / multiply_add_peak();
  state.counters["time_over_depth_0"] = median(ratios);
  state.counters["flops_over_depth_0"] = run->flops() / plain->flops();
  state.counters["parameters"] = static_cast<double>(run->parameters());
}

const std::vector<token_t> prompt(64, 7);

/// One thread and all of them take turns.
template <class Run, class SecondsOf>
void threads_bench(benchmark::State& state, Run& alone, Run& together, const SecondsOf& seconds) {
  std::vector<double> times, ratios;
  for (auto _ : state) {
    const double one = seconds(alone);
    times.push_back(seconds(together));
    ratios.push_back(one / times.back());
  }
  state.counters["ms"] = 1e3 * median(times);
  state.counters["threads"] = static_cast<double>(context().threads());
  state.counters["one_over_all"] = median(ratios);
}

void train_threads_bench(benchmark::State& state) {
  const auto alone = make_training(head_kind::none, 0, 1);
  const auto together = make_training(head_kind::none, 0, context().threads());
  seconds_of_step(*alone);
  seconds_of_step(*together);
  threads_bench(state, *alone, *together, seconds_of_step);
}

void pass_threads_bench(benchmark::State& state) {
  const model_config config = small(head_kind::shared_logit, 7);
  const auto alone = make_decoding(config, 1);
  const auto together = make_decoding(config, context().threads());
  alone->prefill(prompt);
  together->prefill(prompt);
  threads_bench(state, *alone, *together, [](decoding_run& run) {
    run.pass(1);  // its threads wake up
    double seconds = 0;
    for (int i = 0; i < 20; ++i) {
      seconds += run.pass(1);
    }
    return seconds / 20;
  });
}

/// Kept until another model is wanted: the large ones take seconds to fill with random numbers.
decoding_run& decoding_of(const model_config& config) {
  static std::unique_ptr<decoding_run> made;
  if (!made || !(made->config() == config)) {
    made.reset();
    made = make_decoding(config, context().threads());
  }
  return *made;
}

/// Passes of one row and of many rows take turns.
void verify_pass_bench(benchmark::State& state, const model_config& config) {
  const index_t rows = state.range(0);
  decoding_run& run = decoding_of(config);
  run.prefill(prompt);
  run.pass(rows);
  std::vector<double> one, many, ratios;
  for (auto _ : state) {
    one.push_back(run.pass(1));
    many.push_back(run.pass(rows));
    ratios.push_back(many.back() / one.back());
  }
  const double bytes = 4 * trunk_weights(config);
  state.counters["ms"] = 1e3 * median(many);
  state.counters["ms_1_row"] = 1e3 * median(one);
  state.counters["ratio_to_1_row"] = median(ratios);
  state.counters["GB/s"] = bytes / median(many) / 1e9;
  state.counters["share_of_bandwidth"] = bytes / median(many) / bandwidth_peak(bytes).best();
}

/// Text of a model that has learned nothing: what a cycle costs does not depend on how many drafts
/// are right. Plain and speculative decoding take turns, and must write the same.
void decode_cycle_bench(benchmark::State& state, const model_config& config) {
  decoding_run& run = decoding_of(config);
  constexpr index_t count = 16;
  std::vector<double> plain_times, cycle_times, ratios;
  double right = 0;
  for (auto _ : state) {
    const decoded plain = run.generate(prompt, count, false);
    const decoded fast = run.generate(prompt, count, true);
    if (plain.tokens != fast.tokens) {
      state.SkipWithError("speculative and plain text differ");
      return;
    }
    plain_times.push_back(plain.seconds / static_cast<double>(plain.passes));
    cycle_times.push_back(fast.seconds / static_cast<double>(fast.passes));
    ratios.push_back(cycle_times.back() / plain_times.back());
    right = static_cast<double>(count) / static_cast<double>(fast.passes);
  }
  state.counters["ms_token_plain"] = 1e3 * median(plain_times);
  state.counters["ms_cycle"] = 1e3 * median(cycle_times);
  state.counters["cycle_over_plain"] = median(ratios);
  state.counters["tokens_per_cycle_here"] = right;
}

void add_train_step(head_kind head, int depth) {
  const std::string name = "train_step/" + std::string(name_of(head)) + "/" + std::to_string(depth);
  benchmark::RegisterBenchmark(
      name.c_str(), [=](benchmark::State& state) { train_step_bench(state, head, depth); })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

void add_decoding(const char* size, const model_config& config) {
  if (config.prediction.drafts()) {
    const std::string name = "decode_cycle/" + std::string(name_of(config.prediction.kind)) + "/" +
                             std::to_string(config.prediction.depth);
    benchmark::RegisterBenchmark(
        name.c_str(), [=](benchmark::State& state) { decode_cycle_bench(state, config); })
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
    return;
  }
  auto* const passes = benchmark::RegisterBenchmark(
      (std::string("verify_pass/") + size).c_str(),
      [=](benchmark::State& state) { verify_pass_bench(state, config); });
  for (const index_t rows : {1, 2, 3, 4, 5, 6, 8}) {
    passes->Arg(rows);
  }
  passes->UseRealTime()->Unit(benchmark::kMillisecond);
}

[[maybe_unused]] const bool registered = [] {
  add_train_step(head_kind::none, 0);
  for (int depth = 1; depth <= 4; ++depth) {
    add_train_step(head_kind::sequential, depth);
    add_train_step(head_kind::parallel, depth);
  }
  for (const head_kind head :
       {head_kind::recurrent, head_kind::independent, head_kind::shared_logit}) {
    add_train_step(head, 4);
  }
  add_decoding("small", small(head_kind::shared_logit, 7));
  add_decoding("large", large(head_kind::shared_logit, 7));
  for (const head_kind head :
       {head_kind::sequential, head_kind::recurrent, head_kind::parallel, head_kind::independent}) {
    add_decoding("large", large(head, 4));
  }
  for (const auto run : {benchmark::RegisterBenchmark("threads/train_step", train_threads_bench),
                         benchmark::RegisterBenchmark("threads/verify_pass", pass_threads_bench)}) {
    run->UseRealTime()->Unit(benchmark::kMillisecond);
  }
  return true;
}();

}  // namespace
}  // namespace mtp::bench
