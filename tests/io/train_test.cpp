// The loop around a trainer: what it saves and when, who may end it, and what is left if it fails.
#include "mtp/io/train.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "io/scratch.hpp"
#include "support/model.hpp"
#include "train/small_run.hpp"

namespace mtp::test::io_train_cases {

namespace {

using namespace mtp::io;
using mtp::testing::content;
using mtp::testing::refusal;
using mtp::testing::scratch_directory;

constexpr model_config usual = tiny_config(head_kind::parallel, 1);
using usual_run = small_run<usual>;
using usual_setup = small_setup<usual>;
using report_type = train_report<1>;

TEST_CASE(
    "the loop makes the steps of the trainer, validates when it is due, and saves at the end") {
  const scratch_directory scratch;
  usual_run run, plain;
  std::vector<std::int64_t> steps, validated;
  const auto outcome =
      train(run.training,
            {.steps = 7, .validate_every = 3, .checkpoint = scratch / "run.safetensors"},
            [&](const report_type& report) {
              steps.push_back(report.step.step);
              CHECK(report.step.step == run.training.state().step);
              if (report.validation) validated.push_back(report.step.step);
            });
  CHECK(steps == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7});
  CHECK(validated == std::vector<std::int64_t>{3, 6});
  CHECK(outcome.steps == 7);
  CHECK_FALSE(outcome.stopped);
  plain.advance(7);
  CHECK(same_run(run.state(), plain.state()));
  usual_run loaded;
  load_checkpoint(scratch / "run.safetensors", loaded.training);
  CHECK(same_run(loaded.state(), plain.state()));
  CHECK(scratch.entries() == 2);
  // All steps are done: nothing is.
  const std::string before = content(scratch / "run.safetensors");
  CHECK(train(run.training, {.steps = 7, .checkpoint = scratch / "other"}).steps == 7);
  CHECK(scratch.entries() == 2);
  CHECK(train(run.training, {.steps = 8}).steps == 8);
  CHECK((content(scratch / "run.safetensors") == before));
}

TEST_CASE("a callback stops the loop behind its step, which is saved") {
  const scratch_directory scratch;
  usual_run run, plain;
  const auto outcome = train(
      run.training, {.steps = 9, .checkpoint = scratch / "run"}, [](const report_type& report) {
        return report.step.step == 4 ? after_step::stop : after_step::go_on;
      });
  CHECK(outcome.stopped);
  CHECK(outcome.steps == 4);
  CHECK(outcome.best_step == 0);
  plain.advance(4);
  usual_run loaded;
  load_checkpoint(scratch / "run", loaded.training);
  CHECK(same_run(loaded.state(), plain.state()));
}

TEST_CASE("the latest is saved at intervals") {
  const scratch_directory scratch;
  usual_run run;
  std::vector<std::int64_t> saved;
  train(run.training,
        {.steps = 6, .checkpoint = scratch / "run", .save_every = 2},
        [&](const report_type&) {
          usual_run loaded;
          if (scratch.entries() > 0) load_checkpoint(scratch / "run", loaded.training);
          saved.push_back(loaded.training.state().step);
        });
  CHECK(saved == std::vector<std::int64_t>{0, 0, 2, 2, 4, 4});
}

TEST_CASE("the checkpoints before the latest are kept if the loop is asked to") {
  const scratch_directory scratch;
  usual_run run, loaded;
  const auto path = scratch / "run";
  train(run.training, {.steps = 7, .checkpoint = path, .save_every = 2, .keep = 3});
  CHECK(kept_checkpoints(path) == std::vector{kept_checkpoint(path, 6), kept_checkpoint(path, 4)});
  CHECK(load_newest_checkpoint(path, loaded.training).path == path);
  CHECK(loaded.training.state().step == 7);
}

/// A run whose rate is first good and then far too high, so that its best step is not its last.
usual_setup spoilt() {
  usual_setup setup;
  setup.options.learning_rate =
      own_schedule("too high from step 12", [](index_t step) { return step < 12 ? 1e-2 : 0.5; });
  return setup;
}

TEST_CASE("the best checkpoint is that of the lowest validation loss, also across a resume") {
  const scratch_directory scratch;
  const train_loop loop{.steps = 24,
                        .validate_every = 2,
                        .validation_windows = 5,
                        .checkpoint = scratch / "run.safetensors",
                        .save_every = 1};
  const auto best_path = scratch / "run.best.safetensors";
  CHECK(best_checkpoint(loop.checkpoint) == best_path);
  double lowest = 1e9;
  std::int64_t lowest_step = 0;
  usual_run whole(spoilt());
  const auto expected = train(whole.training, loop, [&](const report_type& report) {
    if (!report.validation) return;
    const double loss = report.validation->depths[0].loss;
    CHECK(report.best == (loss < lowest));
    if (loss < lowest) {
      lowest = loss;
      lowest_step = report.step.step;
    }
  });
  CHECK(expected.best_loss == lowest);
  CHECK(expected.best_step == lowest_step);
  REQUIRE(lowest_step > 2);
  REQUIRE(lowest_step < 18);
  const std::string best = content(best_path);
  usual_run loaded(spoilt());
  load_checkpoint(best_path, loaded.training);
  CHECK(loaded.training.state().step == lowest_step);
  CHECK(loaded.training.validate(5).depths[0].loss == lowest);

  // Interrupted behind the best step and resumed, the best one stays.
  usual_run start(spoilt());
  train(start.training, loop, [](const report_type& report) {
    return report.step.step == 18 ? after_step::stop : after_step::go_on;
  });
  CHECK((content(best_path) == best));
  usual_run rest(spoilt());
  load_checkpoint(loop.checkpoint, rest.training);
  const auto resumed = train(rest.training, loop);
  CHECK(resumed.steps == 24);
  CHECK(resumed.best_loss == lowest);
  CHECK(resumed.best_step == lowest_step);
  CHECK((content(best_path) == best));
  CHECK(same_run(rest.state(), whole.state()));

  // Losses of other windows, or of another run, cannot be compared.
  train_loop other = loop;
  other.steps = 30;
  other.validation_windows = 6;
  const run_state before = rest.state();
  CHECK(refusal([&] {
          train(rest.training, other);
        }).find("validation.windows differs: expected 6, got 5") != std::string::npos);
  usual_run stranger;
  stranger.advance(1);
  CHECK(refusal([&] {
          train(stranger.training, loop);
        }).find("run.learning_rate.schedule differs") != std::string::npos);
  CHECK(same_run(rest.state(), before));
  // A run from the start begins anew.
  usual_run anew;
  CHECK(train(anew.training, loop).steps == 24);
  CHECK((content(best_path) != best));
}

TEST_CASE("a callback that throws leaves a trainer that goes on with the same bits") {
  const scratch_directory scratch;
  usual_run run, plain;
  const train_loop loop{.steps = 6, .validate_every = 2, .checkpoint = scratch / "run"};
  CHECK_THROWS_AS(train(run.training,
                        loop,
                        [](const report_type& report) {
                          if (report.step.step == 3) throw std::runtime_error("no more");
                        }),
                  std::runtime_error);
  plain.advance(3);
  CHECK(same_run(run.state(), plain.state()));
  CHECK(train(run.training, loop).steps == 6);
  plain.advance(6);
  CHECK(same_run(run.state(), plain.state()));
}

TEST_CASE("loops that make no sense are refused before the first step") {
  usual_setup all;
  all.validation_share = 0;
  usual_run run, nothing_held_out(all);
  const run_state before = run.state();
  const auto message = [](usual_run& of, const train_loop& loop) {
    return refusal([&] { train(of.training, loop); });
  };
  CHECK(message(run, {.steps = -1}) ==
        "train: expected steps, validate_every and save_every of at least 0, got -1, 0 and 0");
  CHECK(message(run, {.steps = 1, .validate_every = -2}).find("got 1, -2 and 0") !=
        std::string::npos);
  CHECK(message(run, {.steps = 1, .save_every = -2}).find("got 1, 0 and -2") != std::string::npos);
  CHECK(message(run, {.steps = 1, .validation_windows = 0}) ==
        "train: expected a positive number of validation_windows, got 0");
  CHECK(message(run, {.steps = 1, .keep = 0}) == "train: expected keep of at least 1, got 0");
  CHECK(message(run, {.steps = 1, .save_every = 2}) ==
        "train: save_every is 2, but there is no checkpoint to save to");
  CHECK(message(nothing_held_out, {.steps = 1, .validate_every = 2}) ==
        "train: validate_every is 2, but the dataset holds nothing out");
  CHECK(same_run(run.state(), before));
}

}  // namespace

}  // namespace mtp::test::io_train_cases
