// The loop around trainers of several ranks: files and outcome of one process.
#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/io/train.hpp"
#include "train/ranks.hpp"

namespace mtp::test::io_ranks_train_cases {

namespace {

using namespace mtp::io;
using mtp::testing::content;
using mtp::testing::scratch_directory;

constexpr model_config usual = rank_config(head_kind::none, 0);

rank_setup<usual> small_steps() {
  rank_setup<usual> setup;
  setup.options.accumulation = 3;
  setup.options.sharding = optimizer_sharding::zero1;
  return setup;
}

}  // namespace

TEST_CASE("the loop on three ranks leaves the files of one process, also when it is resumed") {
  const scratch_directory one, three;
  train_loop loop{.steps = 8, .validate_every = 2, .save_every = 2, .keep = 2};
  single_run<usual, float> run(small_steps());
  loop.checkpoint = one / "run.safetensors";
  const train_outcome expected = train(run.training, loop);
  std::vector<train_outcome> outcomes(3);
  std::vector<int> calls(3);
  for (const std::int64_t steps : {5, 8}) {
    run_ranks(3, [&](thread_communicator& group) {
      group_run<usual, float> part(small_steps(), group);
      train_loop own = loop;
      own.checkpoint = three / "run.safetensors";
      own.steps = steps;
      if (steps == 8) load_checkpoint(own.checkpoint, part.training);
      const auto rank = static_cast<std::size_t>(group.rank());
      outcomes[rank] = train(part.training, own, [&](const auto&) { ++calls[rank]; });
    });
  }
  CHECK(calls == std::vector<int>{8, 8, 8});
  for (const train_outcome& outcome : outcomes) {
    CHECK(outcome.steps == 8);
    CHECK(outcome.best_loss == expected.best_loss);
    CHECK(outcome.best_step == expected.best_step);
  }
  for (const char* name : {"run.safetensors", "run.best.safetensors"}) {
    CAPTURE(name);
    CHECK((content(one / name) == content(three / name)));
  }
}

TEST_CASE("the run stops on all ranks when the callback of one of them says so") {
  std::vector<train_outcome> outcomes(3);
  run_ranks(3, [&](thread_communicator& group) {
    group_run<usual, float> part(small_steps(), group);
    outcomes[static_cast<std::size_t>(group.rank())] =
        train(part.training, {.steps = 9}, [&](const auto& report) {
          return report.step.step == 2 + group.rank() ? after_step::stop : after_step::go_on;
        });
  });
  for (const train_outcome& outcome : outcomes) {
    CHECK(outcome.stopped);
    CHECK(outcome.steps == 2);
  }
}

TEST_CASE("a loop that one rank refuses, or has different, ends on all ranks at once") {
  const auto messages_of = [](const auto& change) {
    std::vector<std::string> messages(3);
    run_ranks(3, [&](thread_communicator& group) {
      group_run<usual, float> part(small_steps(), group);
      train_loop loop{.steps = 3};
      if (group.rank() == 1) change(loop);
      try {
        train(part.training, loop);
      } catch (const error& problem) {
        messages[static_cast<std::size_t>(group.rank())] = problem.what();
      }
      CHECK(part.training.state().step == 0);
    });
    return messages;
  };
  for (const std::string& message : messages_of([](auto& loop) { loop.keep = 0; })) {
    CHECK(message == "rank 1 of 3: train: expected keep of at least 1, got 0");
  }
  for (const std::string& message : messages_of([](auto& loop) { loop.steps = 4; })) {
    CHECK(message.find("loop.steps is \"3\" on rank 0 and \"4\" on rank 1") != std::string::npos);
  }
  for (const std::string& message : messages_of([](auto& loop) { loop.checkpoint = "here"; })) {
    CHECK(message.find("loop.saves is \"no\" on rank 0 and \"yes\"") != std::string::npos);
  }
}

TEST_CASE("of several ranks, the first one's count of checkpoints is used") {
  const scratch_directory scratch;
  run_ranks(3, [&](thread_communicator& group) {
    group_run<usual, float> part(small_steps(), group);
    for (int step = 0; step < 3; ++step) {
      part.training.step();
      save_and_keep(scratch / "run", part.training, 2 - group.rank());
    }
  });
  CHECK(kept_checkpoints(scratch / "run").size() == 1);
}

}  // namespace mtp::test::io_ranks_train_cases
