// A steady training step asks for no memory, and memory that is not there changes nothing: every
// allocation of this executable is counted, and may fail.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "model/expert_configs.hpp"
#include "mtp/model/transfer.hpp"
#include "support/allocations.hpp"
#include "train/lone_rank.hpp"
#include "train/pipeline.hpp"
#include "train/ranks.hpp"
#include "train/small_run.hpp"

namespace mtp::test::train_allocations_cases {

namespace {

template <model_config Config>
void check_silent() {
  for (const int threads : {1, 2}) {
    INFO(std::string(name_of(Config.prediction.kind)), ", ", threads, " threads");
    small_setup<Config> setup;
    setup.threads = threads;
    setup.options.accumulation = 2;
    small_run<Config> run(setup);
    run.advance(2);
    const long before = allocations;
    for (int step = 0; step < 3; ++step) {
      run.training.step();
    }
    const long after = allocations;
    CHECK(after - before == 0);
    CHECK(run.training.state().step == 5);
    CHECK(run.training.state().skipped == 0);
  }
}

}  // namespace

TEST_CASE("allocations of every kind are counted") {
  check_allocations_are_counted();
}

TEST_CASE("a steady step allocates nothing, whatever the head") {
  check_silent<tiny_config(head_kind::none, 0)>();
  check_silent<flipped_config(head_kind::sequential, 2)>();
  check_silent<tiny_config(head_kind::recurrent, 2)>();
  check_silent<tiny_config(head_kind::parallel, 2)>();
  check_silent<tiny_config(head_kind::independent, 2)>();
  check_silent<tiny_config(head_kind::shared_logit, 2)>();
  check_silent<deepseek_experts(head_kind::sequential, 2)>();
}

TEST_CASE("a skipped step allocates nothing") {
  small_run<tiny_config(head_kind::none, 0)> run;
  run.advance(2);
  const long before = allocations;
  const bool skipped = run.poisoned_step().skipped;
  const long after = allocations;
  CHECK(skipped);
  CHECK(after - before == 0);
}

// Threads as ranks allocate for each message, so what is left are steps of one rank.
TEST_CASE("a steady step of a group of one rank allocates nothing") {
  rank_setup<rank_config(head_kind::sequential, 1)> setup;
  setup.options.accumulation = 3;
  setup.options.sharding = optimizer_sharding::zero1;
  run_ranks(1, [&](thread_communicator& group) {
    group_run<rank_config(head_kind::sequential, 1), float> run(setup, group);
    for (int step = 0; step < 2; ++step) run.training.step();
    const long before = allocations;
    run.training.step();
    const long after = allocations;
    CHECK(after - before == 0);
  });
}

TEST_CASE("a steady step of a stage allocates nothing, and sends what the plan says") {
  constexpr model_config config = pipeline_config(head_kind::sequential, 1);
  using trainer_type = pipeline_trainer<config, cpu, float, std::uint8_t, lone_rank>;
  rank_setup<config> setup;
  setup.options.accumulation = 5;
  for (const head_placement placement : placements) {
    for (int rank = 0; rank < 6; ++rank) {
      setup.options.reduction = rank < 3 ? reduction_order::by_rank : reduction_order::engine;
      CAPTURE(static_cast<int>(placement));
      CAPTURE(rank);
      lone_rank group(rank % 3, 3);
      group.unmeasured = mtp::detail::norm_tag;
      const auto plan = trainer_type::plan_of(3, setup.options, placement);
      cpu_context context{{.threads = 1, .workspace_bytes = 0}};
      const dataset<> data(
          setup.text, {}, {.window = trainer_type::window_of(setup.options.length)});
      trainer_type::model_type model(context, seed{2}, plan.stage(rank % 3));
      trainer_type training(context, model, data, setup.options, group, placement);
      for (int step = 0; step < 2; ++step) training.step();
      group.sent = 0;
      const long before = allocations;
      const bool skipped = training.step().skipped;
      const long after = allocations;
      CHECK(after - before == 0);
      CHECK(!skipped);
      CHECK(group.sent == plan.cost(rank % 3).sent);
    }
  }
}

TEST_CASE("copies of a stage allocate nothing in a steady step, and send what the plan says") {
  constexpr model_config config = pipeline_config(head_kind::sequential, 1);
  using trainer_type = pipeline_trainer<config, cpu, float, std::uint8_t, lone_rank>;
  rank_setup<config> setup;
  setup.options.accumulation = 5;  // of two copies, one has three passes and one has two
  for (const head_placement placement : placements) {
    for (int rank = 0; rank < 16; ++rank) {
      setup.options.reduction = rank % 8 < 4 ? reduction_order::by_rank : reduction_order::engine;
      setup.options.sharding = rank < 8 ? optimizer_sharding::none : optimizer_sharding::zero1;
      CAPTURE(static_cast<int>(placement));
      CAPTURE(rank);
      lone_rank group(rank % 4, 4, 2);
      group.unmeasured = mtp::detail::norm_tag;
      const auto plan = trainer_type::plan_of(4, setup.options, placement, 2);
      cpu_context context{{.threads = 1, .workspace_bytes = 0}};
      const dataset<> data(
          setup.text, {}, {.window = trainer_type::window_of(setup.options.length)});
      trainer_type::model_type model(context, seed{2}, plan.stage(rank % 4));
      trainer_type training(context, model, data, setup.options, group, placement, 2);
      for (int step = 0; step < 2; ++step) training.step();
      group.sent = group.sent_by_engine = 0;
      const long before = allocations;
      const bool skipped = training.step().skipped;
      const long after = allocations;
      CHECK(after - before == 0);
      CHECK(!skipped);
      CHECK(group.sent + group.sent_by_engine == plan.cost(rank % 4).sent);
      CHECK(training.memory().memory() == plan.cost(rank % 4).memory());
    }
  }
}

// ---- memory that is not there -------------------------------------------------------------------

namespace {

constexpr model_config made = flipped_config(head_kind::sequential, 2);

/// A run whose steps are those of another one that nothing has happened to.
struct watched_run {
  small_run<made> run, twin;

  watched_run() {
    run.advance(1);
    twin.advance(1);
  }
  /// The next step has the bits of the undisturbed one.
  bool goes_on() {
    const auto report = run.training.step(), expected = twin.training.step();
    return report.loss.total == expected.loss.total && same_run(run.state(), twin.state());
  }
};

}  // namespace

TEST_CASE("contexts, tensors and models that find no memory throw and leave none behind") {
  const auto nothing_to_change = [] { return true; };
  CHECK(fail_each_allocation([] { cpu_context({.threads = 1, .workspace_bytes = 1 << 10}); },
                             nothing_to_change) == 1);
  CHECK(fail_each_allocation([] { cpu_context({.threads = 4, .workspace_bytes = 1 << 10}); },
                             nothing_to_change) >= 5);
  CHECK(fail_each_allocation(
            [] {
              tensor<float, dims<1>, cpu>(dims<1>{3}, {1, 2, 3});
            },
            nothing_to_change) == 1);
  cpu_context context({.threads = 2, .workspace_bytes = 0});
  CHECK(fail_each_allocation([&] { language_model<made, cpu, bf16>(context, seed{1}); },
                             nothing_to_change) > 3);
  CHECK(fail_each_allocation(
            [] {
              dataset<>(std::vector<std::uint8_t>(600, 1), {0, 100}, {.window = 9});
            },
            nothing_to_change) > 2);
}

TEST_CASE("a workspace that cannot grow stays as it is") {
  cpu_context context({.threads = 2, .workspace_bytes = 256});
  {
    const arena::scope scope(context.workspace());
    context.workspace().take<float>(64)[63] = 1;
  }
  CHECK(fail_each_allocation([&] { context.reserve(1 << 12); },
                             [&] {
                               const bool same = context.workspace().capacity() == 256;
                               const arena::scope scope(context.workspace());
                               context.workspace().take<float>(64)[63] = 1;
                               return same;
                             }) == 1);
  CHECK(context.workspace().capacity() == 1 << 12);
}

TEST_CASE("what cannot be made on a context leaves the run that uses it as it was") {
  watched_run all;
  const auto goes_on = [&] { return all.goes_on(); };
  small_run<made>& run = all.run;
  constexpr model_config large = tiny_config(head_kind::parallel, 2);
  const dataset<> longer(small_text(), {}, {.window = trainer<large, cpu, bf16>::window_of(40)});
  language_model<large, cpu, bf16> other(run.context, seed{3});
  CHECK(fail_each_allocation(
            [&] { const model_loss<large, cpu, bf16> losses(run.context, 16, 40); }, goes_on) > 2);
  CHECK(fail_each_allocation(
            [&] {
              trainer<large, cpu, bf16> training(
                  run.context, other, longer, {.batch = 20, .length = 40});
            },
            goes_on) > 5);
  CHECK(fail_each_allocation([&] { static_cast<void>(run.training.validate(3)); }, goes_on) == 0);
}

TEST_CASE("a first step, skipped or not, needs no memory") {
  small_run<made> run;
  CHECK(fail_each_allocation([&] { run.training.step(); }, [] { return false; }) == 0);
  CHECK(fail_each_allocation([&] { run.poisoned_step(); }, [] { return false; }) == 0);
}

TEST_CASE("parameters that find no memory on their way change no model") {
  cpu_context context({.threads = 1});
  const language_model<made, cpu> from(context, seed{1});
  language_model<made, cpu, bf16> to(context, seed{2});
  const auto values = to.values();
  const std::vector<bf16> before(values.data(), values.data() + values.count());
  const auto unchanged = [&] {
    return std::memcmp(values.data(), before.data(), before.size() * sizeof(bf16)) == 0;
  };
  CHECK(fail_each_allocation([&] { copy_parameters(to, from); }, unchanged) > 2);
}

}  // namespace mtp::test::train_allocations_cases
