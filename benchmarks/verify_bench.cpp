// What a forward pass over several rows costs, compared with one row: the price of verifying
// drafts.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

namespace {

/// 42 million weights are read per pass, 168 MB: more than most last-level caches hold.
constexpr mtp::model_config large{.vocab_size = 32000,
                                  .hidden_size = 512,
                                  .num_layers = 8,
                                  .num_heads = 8,
                                  .intermediate_size = 1408,
                                  .max_positions = 512,
                                  .head = mtp::head_kind::shared_logit,
                                  .depth = 7};

double seconds_of_step(mtp::decoder<large, mtp::cpu>& sequence,
                       const std::vector<mtp::token_t>& tokens,
                       std::size_t rows) {
  const mtp::index_t length = sequence.length();
  const auto start = std::chrono::steady_clock::now();
  benchmark::DoNotOptimize(sequence.step(std::span(tokens).first(rows), false));
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  sequence.roll_back(length);
  return spent.count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(),
                   values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

/// Steps of one row and of many rows take turns, so that the machine's mood meets both.
void verify(benchmark::State& state) {
  static mtp::context<mtp::cpu> context;
  static mtp::language_model<large, mtp::cpu> model(context, mtp::seed{1});
  static mtp::decoder<large, mtp::cpu> sequence(context, model);
  const auto rows = static_cast<std::size_t>(state.range(0));
  const std::vector<mtp::token_t> tokens(64, 7);
  sequence.reset();
  sequence.prefill(tokens, false);
  std::vector<double> one, many, ratios;
  for (auto _ : state) {
    one.push_back(seconds_of_step(sequence, tokens, 1));
    many.push_back(seconds_of_step(sequence, tokens, rows));
    ratios.push_back(many.back() / one.back());
    state.SetIterationTime(many.back());
  }
  constexpr double bytes = 4.0 * 42.1e6;
  state.counters["ratio_to_1_row"] = median(ratios);
  state.counters["ms_1_row"] = 1e3 * median(one);
  state.counters["ms"] = 1e3 * median(many);
  state.counters["GB/s_1_row"] = bytes / median(one) / 1e9;
}

}  // namespace

BENCHMARK(verify)
    ->Arg(1)
    ->Arg(2)
    ->Arg(3)
    ->Arg(4)
    ->Arg(5)
    ->Arg(6)
    ->Arg(8)
    ->Iterations(60)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
