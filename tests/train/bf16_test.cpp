// Models of bf16 elements: f32 masters remember what a bf16 parameter cannot, checkpoints hold
// them, and text is the same drafted or not.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/decode/generate.hpp"
#include "mtp/io/checkpoint.hpp"
#include "mtp/model/transfer.hpp"
#include "support/batches.hpp"
#include "support/compare.hpp"
#include "train/small_run.hpp"

namespace mtp::test::train_bf16_cases {

namespace {

using mtp::testing::scratch_directory;

constexpr model_config config = flipped_config(head_kind::sequential, 2);
using model_type = language_model<config, cpu, bf16>;
using trainer_type = trainer<config, cpu, bf16>;

struct bf16_run {
  explicit bf16_run(double rate = 1e-2, std::uint64_t model_seed = 2)
      : context({.threads = 2, .workspace_bytes = 0}),
        data(small_text(), {}, {.window = trainer_type::window_of(7)}),
        model(context, seed{model_seed}),
        training(context,
                 model,
                 data,
                 {.batch = 3,
                  .length = 7,
                  .learning_rate = {.peak = rate, .warmup_steps = 0, .total_steps = 1000}}) {}

  std::vector<bf16> values() const {
    return {model.values().data(), model.values().data() + model.values().count()};
  }
  std::vector<float> master() {
    const auto array = training.optimizer().master(model);
    return {array.data(), array.data() + array.count()};
  }

  cpu_context context;
  dataset<> data;
  model_type model;
  trainer_type training;
};

}  // namespace

TEST_CASE("masters start as the parameters, and parameters are the rounded masters") {
  bf16_run run;
  const auto check_rounded = [&] {
    const auto master = run.master();
    const auto values = run.values();
    for (std::size_t i = 0; i < master.size(); ++i) {
      REQUIRE(bf16(master[i]).bits() == values[i].bits());
    }
  };
  check_rounded();
  for (int step = 0; step < 3; ++step) {
    run.training.step();
  }
  check_rounded();
}

TEST_CASE("steps too small for bf16 add up in the masters") {
  bf16_run run(1e-6);
  const auto before = run.master();
  const auto rounded_before = run.values();
  run.training.step();
  std::size_t moved = 0, seen = 0;
  const auto after = run.master();
  const auto rounded_after = run.values();
  for (std::size_t i = 0; i < after.size(); ++i) {
    moved += after[i] != before[i] ? 1 : 0;
    seen += rounded_after[i].bits() != rounded_before[i].bits() ? 1 : 0;
  }
  CHECK(moved > after.size() / 4);
  CHECK(seen < moved / 20);
}

TEST_CASE("parameters that are changed in the model of a bf16 run are what it goes on from") {
  const scratch_directory scratch;
  bf16_run other(1e-2, 5);
  other.training.step();
  io::save_checkpoint(scratch / "other", other.training);
  language_model<config, cpu, float> single(other.context, seed{6});
  using change = std::function<void(bf16_run&)>;
  const change changes[] = {
      [&](bf16_run& run) { io::load_parameters(scratch / "other", run.model); },
      [&](bf16_run& run) { copy_parameters(run.model, single); },
      [&](bf16_run& run) { copy_trunk(run.model, single); },
      [](bf16_run& run) { run.model.values().data()[3] = bf16(0.75f); },
      [](bf16_run& run) {  // by hand, through an array from before
        static bf16* held;
        held = run.model.values().data();
        run.training.step();
        held[5] = bf16(-2.5f);
      },
  };
  for (const bool trained : {false, true}) {
    for (const auto& apply : changes) {
      CAPTURE(trained);
      bf16_run run(0);  // steps of no length
      if (trained) {
        run.training.step();
      }
      apply(run);
      const auto expected = run.values();
      // What is saved is what is there.
      io::save_checkpoint(scratch / "changed", run.training);
      bf16_run reloaded(0, 8);
      io::load_checkpoint(scratch / "changed", reloaded.training);
      CHECK(same_bits(reloaded.values(), expected));
      run.training.step();
      CHECK(same_bits(run.values(), expected));
      // And what is trained on: the same step as that of a run that began with it.
      reloaded.training.step();
      CHECK(same_bits(reloaded.master(), run.master()));
    }
  }
}

TEST_CASE("a bf16 model learns") {
  bf16_run run;
  const double first = run.training.step().loss.total;
  double last = first;
  for (int step = 0; step < 60; ++step) {
    last = run.training.step().loss.total;
  }
  CHECK(std::isfinite(last));
  CHECK(last < 0.8 * first);
}

TEST_CASE("a resumed bf16 run is the uninterrupted one, bit by bit") {
  const scratch_directory scratch;
  bf16_run whole, start, rest(1e-2, 99);
  for (int step = 0; step < 5; ++step) {
    whole.training.step();
    if (step < 3) {
      start.training.step();
    }
  }
  io::save_checkpoint(scratch / "part", start.training);
  io::load_checkpoint(scratch / "part", rest.training);
  CHECK(same_bits(rest.master(), start.master()));
  CHECK(same_bits(rest.values(), start.values()));
  rest.training.step();
  rest.training.step();
  CHECK(same_bits(rest.master(), whole.master()));
  CHECK(same_bits(rest.values(), whole.values()));
}

TEST_CASE(
    "the parameters of a bf16 run load into an f32 model, and the run does not resume as f32") {
  const scratch_directory scratch;
  bf16_run run;
  run.training.step();
  io::save_checkpoint(scratch / "run", run.training);
  language_model<config, cpu, float> single(run.context, seed{7});
  io::load_parameters(scratch / "run", single);
  const auto values = single.values();
  CHECK(same_bits(std::vector<float>(values.data(), values.data() + values.count()), run.master()));

  small_run<config> other;
  CHECK_THROWS_AS(io::load_checkpoint(scratch / "run", other.training), error);
}

TEST_CASE("bf16 text and logits are the same drafted or not") {
  bf16_run run;
  for (int step = 0; step < 40; ++step) {
    run.training.step();
  }
  generator<config, cpu, bf16> writer(run.context, run.model);
  const auto write = [&](decode_mode mode) {
    std::vector<float> all;
    generate_options<bf16, cpu> options;
    options.mode = mode;
    options.max_new_tokens = 30;
    options.on_logits = [&](index_t, vector_view<const float, cpu> logits) {
      all.insert(all.end(), logits.data(), logits.data() + logits.extent(0));
    };
    const auto& result = writer.generate(std::vector<token_t>{1, 5, 17}, options);
    all.insert(all.end(), result.tokens.begin(), result.tokens.end());
    return all;
  };
  CHECK(same_bits(write(decode_mode::speculative), write(decode_mode::plain)));
}

}  // namespace mtp::test::train_bf16_cases
