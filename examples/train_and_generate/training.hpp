// The training half of the program.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mtp/distributed/agreement.hpp"
#include "mtp/io/kept_checkpoints.hpp"
#include "mtp/mtp.hpp"
#include "options.hpp"
#include "outcome.hpp"
#include "run_folder.hpp"
#include "stopping.hpp"
#include "together.hpp"

namespace example {

template <mtp::model_config Config>
mtp::train_options<Config> training_options(const program_options& options,
                                            long planned_steps,
                                            int ranks) {
  mtp::train_options<Config> chosen;
  chosen.batch = options.batch;
  chosen.length = options.length;
  chosen.accumulation = options.passes > 0 ? options.passes : ranks;
  const double fitting = mtp::learning_rate_schedule::of_width(Config.hidden_size).peak;
  chosen.learning_rate = {.peak = options.learning_rate >= 0 ? options.learning_rate : fitting,
                          .floor = 0.1,
                          .warmup_steps = std::min<mtp::index_t>(planned_steps / 10, 100),
                          .total_steps = planned_steps};
  if (options.lambda >= 0) {
    chosen.lambda = mtp::lambda_schedule::constant(options.lambda);
  }
  return chosen;
}

template <class Report>
std::vector<double> losses_of(const Report& report) {
  std::vector<double> losses;
  for (const auto& depth : report.depths) {
    losses.push_back(depth.loss);
  }
  return losses;
}

template <class Report>
std::vector<double> agreements_of(const Report& report) {
  std::vector<double> agreements;
  for (const auto& depth : report.depths) {
    agreements.push_back(depth.agreement);
  }
  return agreements;
}

/// Trains up to options.steps, from the checkpoint if so asked. Validates on a part of the held-out
/// text now and then, on all of it at the end; saves now and then and at the end. Rank 0 has the
/// folder, and writes.
template <class Trainer>
training_outcome train(const program_options& options,
                       const run_folder* folder,
                       const run_facts& facts,
                       Trainer& trainer) {
  using clock = std::chrono::steady_clock;
  constexpr mtp::index_t some_windows = 16;  // enough for a curve, and little time
  auto& group = trainer.group();
  const bool is_first = folder != nullptr;
  const auto checkpoint = is_first ? folder->checkpoint() : std::filesystem::path("of rank 0");
  const auto save = [&] { mtp::io::save_and_keep(checkpoint, trainer, options.keep); };
  const auto going = [&] { return !any_of(group, stop_requested != 0); };
  if (options.resume) {
    const auto found = mtp::io::load_newest_checkpoint(checkpoint, trainer);
    for (const auto& reason : found.refused) {
      if (is_first) fmt::print(stderr, "{}\n", reason);
    }
    if (is_first && !found.refused.empty()) {
      fmt::print(stderr, "resuming from {}\n", found.path.string());
    }
  }
  mtp::together(group, [&] {
    if (is_first) folder->begin();
  });
  training_outcome outcome;
  outcome.tokens_per_step = static_cast<long>(trainer.tokens_per_step());
  std::optional<run_log> log;
  mtp::together(group, [&] {
    if (is_first) log.emplace(options, *folder, facts, static_cast<long>(trainer.state().step));
  });
  if (log) outcome.curve = log->earlier();
  if (!outcome.curve.empty()) {
    outcome.tokens_per_s = outcome.curve.back().tokens_per_s;
  }
  request_stop_on_signals();
  const long every = std::max(1L, options.steps / 20);
  double seconds = 0;
  long made = 0;
  while (trainer.state().step < options.steps && going()) {
    const auto start = clock::now();
    const auto report = trainer.step();
    seconds += std::chrono::duration<double>(clock::now() - start).count();
    outcome.tokens_per_s = static_cast<double>(++made * outcome.tokens_per_step) / seconds;
    step_record record;
    record.step = static_cast<long>(report.step);
    record.tokens = record.step * outcome.tokens_per_step;
    record.learning_rate = report.learning_rate;
    record.lambda = report.lambda;
    record.grad_norm = report.gradient_norm;
    record.tokens_per_s = outcome.tokens_per_s;
    record.train_loss = losses_of(report.loss);
    record.train_agreement = agreements_of(report.loss);
    record.skipped = report.skipped;
    if (record.step % every == 0 || record.step == options.steps) {
      record.val_loss = losses_of(trainer.validate(some_windows));
    }
    std::string problem;
    try {
      if (log) log->record(record);
    } catch (const mtp::error& thrown) {
      problem = thrown.what();
    }
    if (any_of(group, !problem.empty())) {
      save();  // the disk may take one more checkpoint where a log fails, and it is worth more
      mtp::all_succeeded(group, problem);
    }
    if (options.save_every > 0 && record.step % options.save_every == 0 &&
        record.step != options.steps) {
      save();
    }
    outcome.curve.push_back(std::move(record));
  }
  if (log) log->finish();
  save();
  if (log) outcome.warning = log->warning();
  outcome.steps = static_cast<long>(trainer.state().step);
  bool goes_on = going();
  if (goes_on) {
    outcome.val_windows = static_cast<long>(trainer.data().validation_windows());
    outcome.curve_windows = std::min<long>(some_windows, outcome.val_windows);
    outcome.val_loss = losses_of(
        trainer.validate(trainer.data().validation_windows(), [&] { return goes_on = going(); }));
    goes_on = goes_on && going();
  }
  outcome.interrupted = !goes_on;
  return outcome;
}

}  // namespace example
