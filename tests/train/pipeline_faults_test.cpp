// Stages that were started with different things, steps that all of them skip, a stage that fails,
// and what they hold.
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "train/pipeline.hpp"

namespace mtp::test::train_pipeline_faults_cases {

namespace {

constexpr model_config usual = pipeline_config(head_kind::sequential, 1);
constexpr std::size_t all = 3;

rank_setup<usual> usual_setup() {
  rank_setup<usual> setup;
  setup.options.accumulation = 3;
  return setup;
}

/// What three stages say, of which the one in the middle has another setup or placement.
std::vector<std::string> refusals(const std::function<void(rank_setup<usual>&)>& change,
                                  head_placement placement = head_placement::last_stage) {
  std::vector<std::string> messages(all);
  run_ranks(static_cast<int>(all), [&](thread_communicator& group) {
    rank_setup<usual> setup = usual_setup();
    if (group.rank() == 1) change(setup);
    try {
      const pipeline_run<usual> run(
          setup, group, group.rank() == 1 ? placement : head_placement::last_stage);
    } catch (const error& problem) {
      messages[static_cast<std::size_t>(group.rank())] = problem.what();
    }
  });
  return messages;
}

/// What one process refuses.
std::string refusal(const std::function<void(rank_setup<usual>&, pipeline_stage&)>& change) {
  std::string message;
  run_ranks(1, [&](thread_communicator& group) {
    rank_setup<usual> setup = usual_setup();
    pipeline_stage stage{0, 4, true, true};
    change(setup, stage);
    cpu_context context{{.threads = 1, .workspace_bytes = 0}};
    const dataset<> data(
        setup.text, {}, {.window = thread_pipeline<usual>::window_of(setup.options.length)});
    try {
      stage_model<usual, cpu> model(context, seed{2}, stage);
      const thread_pipeline<usual> run(context, model, data, setup.options, group);
    } catch (const error& problem) {
      message = problem.what();
    }
  });
  return message;
}

}  // namespace

TEST_CASE("stages that were started with different things say so, all of them") {
  const auto of_text = refusals([](auto& setup) { setup.text[5] ^= 1; });
  const auto of_rate = refusals([](auto& setup) { setup.options.learning_rate.peak = 0.5; });
  for (std::size_t rank = 0; rank < all; ++rank) {
    CHECK(of_text[rank].find("run.data.text") != std::string::npos);
    CHECK(of_rate[rank].find("run.learning_rate.peak") != std::string::npos);
  }
}

TEST_CASE("what one stage refuses, all of them throw at once, with its number") {
  const auto of_steps = refusals([](auto& setup) { setup.options.max_bad_steps = 0; });
  const auto of_scope =
      refusals([](auto& setup) { setup.options.loss.scope = gradient_scope::heads_only; });
  for (std::size_t rank = 0; rank < all; ++rank) {
    CHECK(of_steps[rank].find("rank 1 of 3: trainer: expected a positive max_bad_steps") == 0);
    CHECK(of_scope[rank].find("rank 1 of 3: pipeline_trainer: heads are trained without") == 0);
  }
}

TEST_CASE("what cannot be trained in stages is refused") {
  CHECK(refusal([](auto&, auto&) {}).empty());
  CHECK(refusal([](auto& setup, auto&) {
          setup.options.loss.scope = gradient_scope::heads_only;
        }).find("heads are trained without their trunk") != std::string::npos);
  CHECK(refusal([](auto&, auto& stage) {
          stage.last = 3;
        }).find("[0, 4), but the model has [0, 3)") != std::string::npos);
  CHECK(refusal([](auto&, auto& stage) { stage.last = 5; }).find("within [0, 4)") !=
        std::string::npos);
  CHECK(refusal([](auto&, auto& stage) { stage.first = 1; }).find("within [0, 4)") !=
        std::string::npos);
}

TEST_CASE("a step with NaN on one stage is skipped by all, and changes nothing") {
  const rank_setup<usual> setup = usual_setup();
  const auto expected = train_alone<usual>(setup, 3);
  for (const head_placement placement : placements) {
    rank_result<usual, float> result(language_model<usual, cpu, float>::layout.storage);
    run_ranks(static_cast<int>(all), [&](thread_communicator& group) {
      pipeline_run<usual> run(setup, group, placement);
      for (int victim = 0; victim < 2; ++victim) {  // stages with blocks
        float& value = run.model.values().data()[run.model.layout.own_blocks.local];
        const float healthy = value;
        if (group.rank() == victim) value = std::numeric_limits<float>::quiet_NaN();
        const auto report = run.training.step();
        value = healthy;
        CHECK(report.skipped);
        CHECK(std::isnan(report.gradient_norm));
      }
      CHECK(run.training.state().skipped == 2);
      CHECK(run.training.optimizer().updates() == 0);
      run.training.set_state({});
      for (int step = 0; step < 3; ++step) run.training.step();
      take_stage(result, run.training);
    });
    CHECK(same_bits(result.values, expected.values));
    CHECK(same_bits(result.second, expected.second));
  }
}

TEST_CASE("a stage that fails ends all of them") {
  for (const head_placement placement : placements) {
    for (int victim = 0; victim < static_cast<int>(all); ++victim) {
      std::string message;
      try {
        run_ranks(static_cast<int>(all), [&](thread_communicator& group) {
          pipeline_run<usual> run(usual_setup(), group, placement);
          run.training.step();
          check(group.rank() != victim, "the disk is full");
          run.training.step();
        });
      } catch (const error& problem) {
        message = problem.what();
      }
      CHECK(message.find("the disk is full") != std::string::npos);
    }
  }
}

}  // namespace mtp::test::train_pipeline_faults_cases
