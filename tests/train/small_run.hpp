// Training runs that take milliseconds: a text that can be learned, a small model, and a copy of
// everything that a run consists of.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/random.hpp"
#include "mtp/train/trainer.hpp"
#include "support/compare.hpp"
#include "support/model.hpp"

namespace mtp::test {

/// Tokens below 19, most of them a function of the one before.
inline std::vector<std::uint8_t> small_text(index_t size = 600, std::uint64_t stream = 1) {
  const random_stream random(seed{8}, stream);
  std::vector<std::uint8_t> text;
  std::uint64_t token = 1;
  for (index_t i = 0; i < size; ++i) {
    const auto position = static_cast<std::uint64_t>(2 * i);
    const bool surprise = random.below(4 * position, 10) == 0;
    token = surprise ? random.below(4 * position + 1, 19) : (3 * token + 2) % 19;
    text.push_back(static_cast<std::uint8_t>(token));
  }
  return text;
}

/// What a run is made of besides its model.
template <model_config Config>
struct small_setup {
  train_options<Config> options = defaults();
  std::vector<std::uint8_t> text = small_text();
  std::vector<std::int64_t> document_starts{0, 150, 155, 400};
  double validation_share = 0.1;
  seed data_seed{1};
  seed model_seed{2};
  int threads = 2;

  static train_options<Config> defaults() {
    train_options<Config> options;
    options.batch = 3;
    options.length = 7;
    options.learning_rate = {.peak = 1e-2, .floor = 0.1, .warmup_steps = 4, .total_steps = 40};
    return options;
  }
};

/// Everything that a later step depends on, and the counters.
struct run_state {
  std::vector<float> numbers;          // values, first and second moments, padding included
  std::vector<std::int64_t> counters;  // step, skipped, skipped in a row, updates
};

inline comparison same_run(const run_state& actual, const run_state& expected) {
  const comparison numbers = same_bits(actual.numbers, expected.numbers);
  return numbers ? same_bits(actual.counters, expected.counters) : numbers;
}

template <model_config Config>
class small_run {
 public:
  using setup_type = small_setup<Config>;
  using model_type = language_model<Config, cpu>;
  using trainer_type = trainer<Config, cpu>;
  static constexpr auto& layout = model_type::layout;

  // No workspace but what the trainer asks for: what it forgets to reserve is an error.
  explicit small_run(const setup_type& setup = {})
      : context({.threads = setup.threads, .workspace_bytes = 0}),
        data(setup.text,
             setup.document_starts,
             {.window = trainer_type::window_of(setup.options.length),
              .validation_share = setup.validation_share,
              .seed = setup.data_seed}),
        model(context, setup.model_seed),
        training(context, model, data, setup.options) {}

  std::span<float> values() { return span_of(model.values()); }
  std::span<float> first() { return span_of(training.optimizer().first()); }
  std::span<float> second() { return span_of(training.optimizer().second()); }

  run_state state() {
    run_state all;
    for (const auto part : {values(), first(), second()}) {
      all.numbers.insert(all.numbers.end(), part.begin(), part.end());
    }
    const trainer_state& counters = training.state();
    all.counters = {
        counters.step, counters.skipped, counters.skipped_in_a_row, training.optimizer().updates()};
    return all;
  }

  /// Trains up to `last` steps in all; those in `poisoned`, counted from 0, meet a parameter that
  /// is not a number.
  void advance(std::int64_t last, const std::vector<std::int64_t>& poisoned = {}) {
    while (training.state().step < last) {
      if (std::find(poisoned.begin(), poisoned.end(), training.state().step) == poisoned.end()) {
        training.step();
      } else {
        poisoned_step();
      }
    }
  }

  /// A step with one parameter replaced, which then gets its value back.
  auto poisoned_step(float poison = std::numeric_limits<float>::quiet_NaN()) {
    float& victim = values()[static_cast<std::size_t>(layout.trunk.norm.offset)];
    const float healthy = victim;
    victim = poison;
    struct restore {
      float& victim;
      float healthy;
      ~restore() { victim = healthy; }
    } const restored{victim, healthy};
    return training.step();
  }

  cpu_context context;
  dataset<> data;
  model_type model;
  trainer_type training;

 private:
  static std::span<float> span_of(parameter_array<float, cpu> array) {
    return {array.data(), static_cast<std::size_t>(array.count())};
  }
};

}  // namespace mtp::test
