// Copies of a pipeline, whose passes are divided among them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "train/pipeline.hpp"

namespace mtp::test::train_pipeline_copies_cases {

namespace {

const std::vector<head_placement> everywhere(std::begin(placements), std::end(placements));

}  // namespace

TEST_CASE("copies of a pipeline: the bits of one process, wherever the modules are") {
  rank_setup<pipeline_config(head_kind::sequential, 2, true)> setup;
  setup.options.accumulation = 5;  // the last round has a pass for one of two copies
  check_copies(setup, 2, 2, everywhere);
  check_copies(setup, 1, 3, {head_placement::last_stage});
  check_copies(setup, 3, 1, everywhere);
}

TEST_CASE("copies with ZeRO-1 have shards of masters and moments, and the bits of one process") {
  rank_setup<pipeline_config(head_kind::sequential, 1, true)> setup;
  setup.options.sharding = optimizer_sharding::zero1;
  setup.options.accumulation = 5;
  setup.options.clip_norm = 0.05;
  check_copies(setup, 2, 2, everywhere);
  check_copies(setup, 1, 3, {head_placement::last_stage});
}

TEST_CASE("copies of three stages, and with a pass for each: the bits of one process") {
  rank_setup<pipeline_config(head_kind::sequential, 1)> setup;
  setup.options.accumulation = 7;
  check_copies(setup, 3, 2, everywhere, 2);
  setup.options.accumulation = 2;
  check_copies(setup, 2, 2, everywhere, 2);
  setup.options.accumulation = 3;
  check_copies(setup, 2, 2, everywhere, 2);
}

TEST_CASE("copies with uneven targets, clipping and buckets of any size: the bits of one process") {
  rank_setup<pipeline_config(head_kind::parallel, 1)> setup;
  setup.make_uneven();
  setup.options.accumulation = 5;
  setup.options.clip_norm = 0.05;
  for (const index_t bucket : {index_t{333}, index_t{1} << 20}) {
    setup.options.bucket_elements = bucket;
    check_copies(setup, 2, 2, everywhere, 3);
  }
}

TEST_CASE("a step with NaN in one copy of a stage is skipped by all, and changes nothing") {
  constexpr model_config config = pipeline_config(head_kind::sequential, 1);
  rank_setup<config> setup;
  setup.options.accumulation = 3;
  const auto expected = train_alone<config>(setup, 2);
  for (const head_placement placement : placements) {
    rank_result<config, float> result(language_model<config, cpu, float>::layout.storage);
    run_ranks(4, [&](thread_communicator& group) {
      pipeline_run<config> run(setup, group, placement, 2);
      for (const int victim : {0, 2}) {  // ranks with blocks, of both copies
        float& value = run.model.values().data()[run.model.layout.own_blocks.local];
        const float healthy = value;
        if (group.rank() == victim) value = std::numeric_limits<float>::quiet_NaN();
        const auto report = run.training.step();
        value = healthy;
        CHECK(report.skipped);
        CHECK(std::isnan(report.gradient_norm));
      }
      CHECK(run.training.optimizer().updates() == 0);
      run.training.set_state({});
      for (int step = 0; step < 2; ++step) run.training.step();
      if (group.rank() < 2) take_stage(result, run.training);
    });
    CHECK(same_bits(result.values, expected.values));
  }
}

// Sums of K terms in two orders differ by at most 2 (K - 1) u times the sum of their absolute
// values, which may be a thousand times the result (see the engine's order in
// pipeline_sequential_test.cpp); the head's part of an embedding is added apart, 2 K terms.
TEST_CASE("copies in the engine's order: the same up to rounding, and equal among them") {
  constexpr model_config config = pipeline_config(head_kind::sequential, 1, true);
  constexpr index_t passes = 5;
  rank_setup<config> setup;
  setup.options.accumulation = passes;
  setup.options.clip_norm = 0;  // so that first moments are those of the gradients
  const auto expected = train_alone<config, double>(setup, 1);
  double largest = 0;
  for (const double moment : expected.first) largest = (std::max)(largest, std::abs(moment));
  const double tolerance =
      2 * (2 * passes - 1) * 0.5 * std::numeric_limits<double>::epsilon() * 1000 * largest;
  setup.options.reduction = reduction_order::engine;
  for (const head_placement placement : placements) {
    const auto result = train_in_stages<config, double>(4, placement, setup, 1, 2);
    for (std::size_t i = 0; i < result.first.size(); ++i) {
      CHECK(std::abs(result.first[i] - expected.first[i]) <= tolerance);
    }
  }
}

TEST_CASE("numbers of copies that do not fit are refused by all ranks, and other ones named") {
  constexpr model_config config = pipeline_config(head_kind::none, 0);
  rank_setup<config> setup;
  setup.options.accumulation = 2;
  const auto refusal = [&](int ranks, int copies) {
    std::string message;
    try {
      static_cast<void>(thread_pipeline<config>::plan_of(
          ranks, setup.options, head_placement::last_stage, copies));
    } catch (const error& problem) {
      message = problem.what();
    }
    return message;
  };
  CHECK(refusal(4, 2).empty());
  CHECK(refusal(3, 2).find("got 2 copies and 3 ranks") != std::string::npos);
  CHECK(refusal(3, 0).find("got 0 copies and 3 ranks") != std::string::npos);
  CHECK(refusal(3, 3).find("at most as many copies as a step has passes (2), got 3") !=
        std::string::npos);
  std::vector<std::string> messages(4);
  run_ranks(4, [&](thread_communicator& group) {
    using trainer_type = thread_pipeline<config>;
    const int copies = group.rank() == 3 ? 4 : 2;
    cpu_context context{{.threads = 1, .workspace_bytes = 0}};
    const dataset<> data(setup.text, {}, {.window = trainer_type::window_of(setup.options.length)});
    stage_model<config, cpu> model(context, seed{2}, {0, 4, true, true});
    try {
      const trainer_type run(
          context, model, data, setup.options, group, head_placement::last_stage, copies);
    } catch (const error& problem) {
      messages[static_cast<std::size_t>(group.rank())] = problem.what();
    }
  });
  for (const std::string& message : messages) {
    CHECK(message.find("pipeline.copies is \"2\" on rank 0 and \"4\" on rank 3") !=
          std::string::npos);
  }
}

}  // namespace mtp::test::train_pipeline_copies_cases
