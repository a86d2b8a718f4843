// Training of a model in stages, on threads, against one process: everything bit by bit.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/distributed/thread_ranks.hpp"
#include "mtp/train/pipeline_trainer.hpp"
#include "support/compare.hpp"
#include "train/ranks.hpp"

namespace mtp::test {

/// Four blocks, so that three stages have different numbers of them.
constexpr model_config pipeline_config(head_kind head, int depth, bool tied = false) {
  model_config config = rank_config(head, depth, tied);
  config.num_hidden_layers = 4;
  return config;
}

inline constexpr head_placement placements[] = {
    head_placement::last_stage, head_placement::own_stage, head_placement::first_stage};

template <model_config Config, class S = float>
using thread_pipeline = pipeline_trainer<Config, cpu, S, std::uint8_t, thread_communicator>;

/// A rank of a pipeline, with a model and data of its own.
template <model_config Config, class S = float>
struct pipeline_run {
  using trainer_type = thread_pipeline<Config, S>;

  pipeline_run(const rank_setup<Config>& setup,
               thread_communicator& group,
               head_placement placement,
               int copies = 1)
      : data(setup.text,
             setup.document_starts,
             {.window = trainer_type::window_of(setup.options.length),
              .validation_share = 0.1,
              .seed = seed{1}},
             setup.mask),
        model(context,
              seed{2},
              trainer_type::plan_of(group.size(), setup.options, placement, copies)
                  .stage(group.rank())),
        training(context, model, data, setup.options, group, placement, copies) {}

  cpu_context context{{.threads = 1, .workspace_bytes = 0}};
  dataset<> data;
  typename trainer_type::model_type model;
  trainer_type training;
};

/// Puts what a rank owns where it is in the model; masters and moments, of which it may have a
/// shard, into `moments`.
template <model_config Config, class S>
void take_stage(rank_result<Config, S>& result,
                rank_result<Config, S>& moments,
                thread_pipeline<Config, S>& run) {
  const auto& at = run.model().layout;
  auto& optimizer = run.optimizer();
  const auto put = [](auto& to, const auto& from, const parameter_range& range) {
    const auto* const first = from.data() + range.local;
    std::copy(first, first + range.count, to.begin() + range.begin);
  };
  for (const parameter_range& range : {at.own_blocks, at.own_head}) {
    put(result.values, run.model().values(), range);
  }
  for (const parameter_range& range : run.optimizer_parts()) {
    put(moments.first, optimizer.first(), range);
    put(moments.second, optimizer.second(), range);
    put(moments.master, optimizer.master(run.model()), range);
  }
}
template <model_config Config, class S>
void take_stage(rank_result<Config, S>& result, thread_pipeline<Config, S>& run) {
  take_stage(result, result, run);
}

/// `ranks` threads. Every rank reports the same; copies of a stage, and of the embedding, are
/// equal; what ranks hold is what the plan says.
template <model_config Config, class S = float>
rank_result<Config, S> train_in_stages(int ranks,
                                       head_placement placement,
                                       const rank_setup<Config>& setup,
                                       int steps,
                                       int copies = 1) {
  std::vector<rank_result<Config, S>> results(
      static_cast<std::size_t>(copies),
      rank_result<Config, S>(language_model<Config, cpu, S>::layout.storage));
  std::vector<std::vector<std::vector<double>>> reports(static_cast<std::size_t>(ranks));
  std::vector<std::vector<S>> embeddings(reports.size());
  std::vector<stage_cost> held(reports.size()), planned(reports.size());
  run_ranks(ranks, [&](thread_communicator& group) {
    pipeline_run<Config, S> run(setup, group, placement, copies);
    const auto own = static_cast<std::size_t>(group.rank());
    for (int step = 0; step < steps; ++step) {
      reports[own].push_back(numbers_of(run.training.step()));
    }
    const int copy = group.rank() / (group.size() / copies);
    // No two have the same.
    auto& of_copy = results[static_cast<std::size_t>(copy)];
    take_stage(of_copy, run.training.plan().is_sharded() ? results[0] : of_copy, run.training);
    const auto& at = run.model.layout;
    if (at.own_blocks.begin == 0 || at.copy.count > 0) {
      const S* const values = run.model.values().data();
      embeddings[own].assign(values, values + at.embedding);
    }
    held[own] = run.training.memory();
    planned[own] = run.training.plan().cost(group.rank());
  });
  rank_result<Config, S>& result = results[0];
  for (auto& each : results) {
    each.reports = reports[0];
    if (setup.options.sharding == optimizer_sharding::zero1) {  // the shards of all copies
      each.first = result.first;
      each.second = result.second;
      each.master = result.master;
    }
    check_same(each, result);
  }
  for (std::size_t rank = 0; rank < reports.size(); ++rank) {
    CAPTURE(rank);
    REQUIRE(reports[rank].size() == result.reports.size());
    for (std::size_t step = 0; step < reports[rank].size(); ++step) {
      CHECK(same_bits(reports[rank][step], result.reports[step]));
    }
    if (!embeddings[rank].empty()) {
      CHECK(same_bits(embeddings[rank], embeddings[0]));
    }
    CHECK(held[rank].parameters == planned[rank].parameters);
    CHECK(held[rank].gradients == planned[rank].gradients);
    CHECK(held[rank].optimizer == planned[rank].optimizer);
    CHECK(held[rank].activations == planned[rank].activations);
    CHECK(held[rank].messages == planned[rank].messages);
    CHECK(held[rank].memory() == planned[rank].memory());
  }
  return result;
}

/// Numbers of stages and placements of the head have the bits of one process.
template <model_config Config, class S = float>
void check_stages(const rank_setup<Config>& setup, const std::vector<int>& numbers, int steps = 6) {
  INFO(std::string(name_of(Config.prediction.kind)), ", ", setup.options.accumulation, " passes");
  const auto expected = train_alone<Config, S>(setup, steps);
  for (const int ranks : numbers) {
    for (const head_placement placement : placements) {
      INFO(ranks, " stages, placement ", static_cast<int>(placement));
      check_same(train_in_stages<Config, S>(ranks, placement, setup, steps), expected);
    }
  }
}

/// Copies of a pipeline of so many stages have the bits of one process.
template <model_config Config, class S = float>
void check_copies(const rank_setup<Config>& setup,
                  int stages,
                  int copies,
                  const std::vector<head_placement>& where,
                  int steps = 4) {
  INFO(std::string(name_of(Config.prediction.kind)), ", ", setup.options.accumulation, " passes");
  const auto expected = train_alone<Config, S>(setup, steps);
  for (const head_placement placement : where) {
    INFO(copies, " copies of ", stages, " stages, placement ", static_cast<int>(placement));
    check_same(train_in_stages<Config, S>(stages * copies, placement, setup, steps, copies),
               expected);
  }
}

}  // namespace mtp::test
