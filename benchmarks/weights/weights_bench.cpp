// Decoding with weights of f32, of bf16 and in 8 bits, in turns: tokens in a second, bytes of
// weights in a second, and passes over 5 rows beside those over 1.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "bench.hpp"
#include "language_models.hpp"
#include "mtp/decode/decoder.hpp"
#include "mtp/model/quantized_model.hpp"

namespace mtp::bench {
namespace {

// The head has no parameters; its depth allows passes over 8 rows.
constexpr model_config config = beyond_cache(head_kind::shared_logit, 7);
constexpr index_t tokens_of_a_turn = 32, prompt_tokens = 128;

/// Seconds of passes over 1 and over 5 rows.
struct turn {
  double one = 0, five = 0;
};

template <scalar S>
class sequence {
 public:
  /// `bytes`: of the weights that a pass reads.
  sequence(std::string name, const inference_model<config, cpu, S>& model, double bytes)
      : name_(std::move(name)),
        decoder_(context(), model),
        bytes_(bytes),
        tokens_(random_prompt(prompt_tokens, config.vocab_size, 0)) {
    for (std::size_t first = 0; first < tokens_.size(); first += 64) {
      decoder_.prefill(std::span(tokens_).subspan(first, 64), hidden_states::dropped);
    }
  }

  void take_turn() { turns_.push_back({seconds_of(1), seconds_of(5)}); }

  double tokens_per_second() const { return 1 / median(&turn::one); }

  void report(benchmark::State& state) const {
    state.counters[name_ + "_tokens/s"] = tokens_per_second();
    state.counters[name_ + "_GB/s"] = bytes_ * tokens_per_second() / 1e9;
    state.counters[name_ + "_5_rows_over_1"] = median(&turn::five) / median(&turn::one);
  }

 private:
  double seconds_of(std::size_t rows) {
    const index_t length = decoder_.length();
    const auto start = std::chrono::steady_clock::now();
    for (index_t i = 0; i < tokens_of_a_turn; ++i) {
      benchmark::DoNotOptimize(
          decoder_.step(std::span(tokens_).first(rows), hidden_states::dropped));
    }
    const double seconds = seconds_since(start) / tokens_of_a_turn;
    decoder_.roll_back(length);
    return seconds;
  }

  double median(double turn::*part) const {
    std::vector<double> all;
    for (const turn& each : turns_) {
      all.push_back(each.*part);
    }
    std::nth_element(
        all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2), all.end());
    return all[all.size() / 2];
  }

  std::string name_;
  decoder<config, cpu, S> decoder_;
  double bytes_;
  std::vector<token_t> tokens_;
  std::vector<turn> turns_;
};

/// Elements of all parameters but the embedding, of which a pass reads one row.
double elements_read() {
  using model_type = language_model<config, cpu>;
  return static_cast<double>(model_type::parameter_count() -
                             model_type::trunk_layout().embedding.count());
}

void decoding_weights_bench(benchmark::State& state) {
  const language_model<config, cpu> f32(context(), seed{1});
  const language_model<config, cpu, bf16> halves(context(), seed{1});
  const auto in_8_bits = quantize(context(), halves);
  const auto with_output = quantize(context(), halves, {.output_matrix = false});
  const double elements = elements_read();
  const auto embedding =
      static_cast<double>(language_model<config, cpu>::trunk_layout().embedding.count());
  sequence<float> of_f32("f32", f32, 4 * elements);
  sequence<bf16> of_bf16("bf16", halves, 2 * elements);
  sequence<bf16> of_bytes(
      "int8", in_8_bits, static_cast<double>(in_8_bits.bytes()) - 2 * embedding);
  sequence<bf16> of_mixed(
      "int8_output_bf16", with_output, static_cast<double>(with_output.bytes()) - 2 * embedding);
  for (auto _ : state) {
    of_f32.take_turn();
    of_bf16.take_turn();
    of_bytes.take_turn();
    of_mixed.take_turn();
  }
  of_f32.report(state);
  of_bf16.report(state);
  of_bytes.report(state);
  of_mixed.report(state);
  state.counters["int8_over_bf16"] = of_bytes.tokens_per_second() / of_bf16.tokens_per_second();
  state.counters["int8_over_f32"] = of_bytes.tokens_per_second() / of_f32.tokens_per_second();
}

BENCHMARK(decoding_weights_bench)->Name("weights/beyond_cache")->Iterations(11)->UseRealTime();

}  // namespace
}  // namespace mtp::bench
