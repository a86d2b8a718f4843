// Training on several ranks, which are threads, against one process: everything bit by bit.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/distributed/thread_ranks.hpp"
#include "mtp/train/trainer.hpp"
#include "support/compare.hpp"
#include "support/model.hpp"
#include "train/small_run.hpp"

namespace mtp::test {

/// More than four times what a shard is a multiple of, so that up to three ranks have one of their
/// own.
constexpr model_config rank_config(head_kind head, int depth, bool tied = false) {
  return {.vocab_size = 128,
          .hidden_size = 64,
          .num_hidden_layers = 2,
          .max_position_embeddings = 48,
          .attention = {.num_attention_heads = 4, .num_key_value_heads = 2},
          .feed_forward = {.intermediate_size = 72},
          .prediction = {.kind = head, .depth = depth},
          .tie_word_embeddings = tied};
}

/// What a run is given.
template <model_config Config>
struct rank_setup {
  train_options<Config> options = defaults();
  std::vector<std::uint8_t> text = small_text();
  std::vector<std::int64_t> document_starts{0, 150, 155, 400};
  std::vector<std::uint8_t> mask{};

  static train_options<Config> defaults() {
    train_options<Config> options;
    options.batch = 1;
    options.length = 7;
    options.accumulation = 12;
    options.learning_rate = {.peak = 1e-2, .floor = 0.1, .warmup_steps = 4, .total_steps = 40};
    options.bucket_elements = 1000;  // many, and none that fits evenly
    return options;
  }
  /// Documents of 2 to 40 tokens and stretches that are no targets.
  void make_uneven() {
    options.loss.normalization = loss_normalization::valid_targets;
    document_starts.clear();
    for (std::int64_t at = 0; at < 600; at += at % 3 == 0 ? 40 : 2) document_starts.push_back(at);
    for (int i = 0; i < 600; ++i) mask.push_back(i / 25 % 2 == 0 && i % 5 != 1 ? 7 : 0);
  }
};

/// What is left of a run.
template <model_config Config, class S>
struct rank_result {
  std::vector<S> values;
  std::vector<accumulate_t<S>> first, second, master;  // of all parts
  std::vector<std::vector<double>> reports;            // of every step

  explicit rank_result(index_t count)
      : values(static_cast<std::size_t>(count)),
        first(values.size()),
        second(values.size()),
        master(values.size()) {}

  /// Takes what one trainer has. Trainers of other parts take theirs to the same result.
  template <class Trainer>
  void take(Trainer& run, bool has_values) {
    const auto put = [&](auto& to, const auto& from, index_t begin) {
      std::copy(from.data(), from.data() + from.count(), to.begin() + begin);
    };
    if (has_values) put(values, run.model().values(), 0);
    const index_t begin = run.optimizer().begin();
    put(first, run.optimizer().first(), begin);
    put(second, run.optimizer().second(), begin);
    put(master, run.optimizer().master(run.model()), begin);
  }
};

/// All that a report says.
template <int Depth>
std::vector<double> numbers_of(const step_report<Depth>& report) {
  std::vector<double> all{static_cast<double>(report.step),
                          report.loss.total,
                          report.gradient_norm,
                          report.learning_rate,
                          report.lambda,
                          static_cast<double>(report.experts.layers),
                          report.experts.largest,
                          report.experts.smallest,
                          report.skipped ? 1.0 : 0.0,
                          // Stages add the routers' sums, in double, in another order.
                          static_cast<double>(static_cast<float>(report.loss.balance))};
  for (const auto& depth : report.loss.depths) {
    all.insert(all.end(),
               {depth.loss,
                depth.agreement,
                static_cast<double>(depth.targets),
                static_cast<double>(depth.agreed)});
  }
  return all;
}

template <class Trainer, class Setup>
struct rank_run {
  template <class... Group>
  explicit rank_run(const Setup& setup, Group&... group)
      : data(setup.text,
             setup.document_starts,
             {.window = Trainer::window_of(setup.options.length),
              .validation_share = 0.1,
              .seed = seed{1}},
             setup.mask),
        model(context, seed{2}),
        training(context, model, data, setup.options, group...) {}

  cpu_context context{{.threads = 1, .workspace_bytes = 0}};
  dataset<> data;
  typename Trainer::model_type model;
  Trainer training;
};

template <model_config Config, class S>
using group_trainer = trainer<Config, cpu, S, std::uint8_t, thread_communicator>;
template <model_config Config, class S>
using group_run = rank_run<group_trainer<Config, S>, rank_setup<Config>>;
template <model_config Config, class S>
using single_run = rank_run<trainer<Config, cpu, S>, rank_setup<Config>>;

/// One process.
template <model_config Config, class S = float>
rank_result<Config, S> train_alone(const rank_setup<Config>& setup, int steps) {
  single_run<Config, S> run(setup);
  rank_result<Config, S> result(run.model.layout.storage);
  for (int step = 0; step < steps; ++step) {
    result.reports.push_back(numbers_of(run.training.step()));
  }
  result.take(run.training, true);
  return result;
}

/// `ranks` threads. Every rank reports the same, and has the same parameters.
template <model_config Config, class S = float>
rank_result<Config, S> train_on(int ranks, const rank_setup<Config>& setup, int steps) {
  rank_result<Config, S> result(language_model<Config, cpu, S>::layout.storage);
  std::vector<rank_result<Config, S>> each(static_cast<std::size_t>(ranks), result);
  run_ranks(ranks, [&](thread_communicator& group) {
    group_run<Config, S> run(setup, group);
    auto& own = each[static_cast<std::size_t>(group.rank())];
    for (int step = 0; step < steps; ++step) {
      own.reports.push_back(numbers_of(run.training.step()));
    }
    own.take(run.training, true);
    if (group.rank() == 0 || setup.options.sharding == optimizer_sharding::zero1) {
      result.take(run.training, group.rank() == 0);  // of its own part
    }
  });
  if (setup.options.loss.scope == gradient_scope::heads_only) {  // a frozen trunk has no masters
    for (index_t i = 0; i < language_model<Config, cpu, S>::layout.head_begin; ++i) {
      const auto at = static_cast<std::size_t>(i);
      result.master[at] = static_cast<accumulate_t<S>>(result.values[at]);
    }
  }
  result.reports = each[0].reports;
  for (const auto& own : each) {
    CHECK(same_bits(own.values, result.values));
    REQUIRE(own.reports.size() == result.reports.size());
    for (std::size_t step = 0; step < own.reports.size(); ++step) {
      CHECK(same_bits(own.reports[step], result.reports[step]));
    }
  }
  return result;
}

template <model_config Config, class S>
void check_same(const rank_result<Config, S>& actual, const rank_result<Config, S>& expected) {
  CHECK(same_bits(actual.values, expected.values));
  CHECK(same_bits(actual.first, expected.first));
  CHECK(same_bits(actual.second, expected.second));
  CHECK(same_bits(actual.master, expected.master));
  REQUIRE(actual.reports.size() == expected.reports.size());
  for (std::size_t step = 0; step < actual.reports.size(); ++step) {
    CAPTURE(step);
    CHECK(same_bits(actual.reports[step], expected.reports[step]));
  }
}

/// Runs of these numbers of ranks have the bits of one process, with ZeRO-1 and without.
template <model_config Config, class S = float>
void check_ranks(rank_setup<Config> setup, const std::vector<int>& numbers, int steps = 20) {
  INFO(std::string(name_of(Config.prediction.kind)));
  const auto expected = train_alone<Config, S>(setup, steps);
  for (const int ranks : numbers) {
    for (const auto sharding : {optimizer_sharding::none, optimizer_sharding::zero1}) {
      INFO(ranks, " ranks, sharding ", static_cast<int>(sharding));
      setup.options.sharding = sharding;
      check_same(train_on<Config, S>(ranks, setup, steps), expected);
    }
  }
}

}  // namespace mtp::test
