// The loop around trainers of models in stages: files and outcome of one process.
#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/io/pipeline_checkpoint.hpp"
#include "train/pipeline.hpp"

namespace mtp::test::io_pipeline_train_cases {

namespace {

using namespace mtp::io;
using mtp::testing::content;
using mtp::testing::scratch_directory;

constexpr model_config usual = pipeline_config(head_kind::sequential, 1);

rank_setup<usual> small_steps() {
  rank_setup<usual> setup;
  setup.options.accumulation = 3;
  return setup;
}

}  // namespace

TEST_CASE("the loop in stages leaves the files of one process, also when it is resumed") {
  const scratch_directory one;
  train_loop loop{.steps = 8, .validate_every = 2, .save_every = 2, .keep = 2};
  single_run<usual, float> run(small_steps());
  loop.checkpoint = one / "run.safetensors";
  const train_outcome expected = train(run.training, loop);
  CHECK(expected.best_step > 0);
  for (const head_placement placement : placements) {
    CAPTURE(static_cast<int>(placement));
    const scratch_directory stages;
    std::vector<train_outcome> outcomes(4);
    for (const std::int64_t steps : {5, 8}) {
      const int copies = steps == 5 ? 2 : 1;  // first two copies of two, then three stages
      run_ranks(copies == 2 ? 4 : 3, [&](thread_communicator& group) {
        pipeline_run<usual> part(small_steps(), group, placement, copies);
        train_loop own = loop;
        own.checkpoint = stages / "run.safetensors";
        own.steps = steps;
        if (steps == 8) load_newest_checkpoint(own.checkpoint, part.training);
        int calls = 0;
        outcomes[static_cast<std::size_t>(group.rank())] =
            train(part.training, own, [&](const auto& report) {
              CHECK(report.validation.has_value() == (report.step.step % 2 == 0));
              ++calls;
            });
        CHECK(calls == (steps == 5 ? 5 : 3));
      });
    }
    for (std::size_t rank = 0; rank < 3; ++rank) {
      CHECK(outcomes[rank].steps == 8);
      CHECK(outcomes[rank].best_loss == expected.best_loss);
      CHECK(outcomes[rank].best_step == expected.best_step);
    }
    for (const char* name : {"run.safetensors", "run.best.safetensors"}) {
      CAPTURE(name);
      CHECK((content(one / name) == content(stages / name)));
    }
    CHECK(kept_checkpoints(stages / "run.safetensors").size() == 1);
  }
}

TEST_CASE("a loop that one stage refuses ends on all of them at once") {
  std::vector<std::string> messages(3);
  run_ranks(3, [&](thread_communicator& group) {
    pipeline_run<usual> part(small_steps(), group, head_placement::last_stage);
    try {
      train(part.training, {.steps = 3, .keep = group.rank() == 2 ? 0 : 1});
    } catch (const error& problem) {
      messages[static_cast<std::size_t>(group.rank())] = problem.what();
    }
  });
  for (const std::string& message : messages) {
    CHECK(message == "rank 2 of 3: train: expected keep of at least 1, got 0");
  }
}

}  // namespace mtp::test::io_pipeline_train_cases
