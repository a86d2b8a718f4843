// Checkpoints of several ranks: the bytes of one process, resumed by any number of ranks.
#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/io/checkpoint.hpp"
#include "mtp/io/kept_checkpoints.hpp"
#include "train/ranks.hpp"

namespace mtp::test::io_ranks_checkpoint_cases {

namespace {

using namespace mtp::io;
using mtp::testing::content;
using mtp::testing::refusal;
using mtp::testing::scratch_directory;

constexpr model_config usual = rank_config(head_kind::sequential, 1);

/// Goes on from `from`, if it is given, up to step `last`, and saves into `to`. 0 ranks are one
/// process without a group.
template <model_config Config, class S = float>
void go_on(const rank_setup<Config>& setup,
           int ranks,
           const std::filesystem::path& from,
           std::int64_t last,
           const std::filesystem::path& to) {
  const auto work = [&](auto& run) {
    if (!from.empty()) load_checkpoint(from, run.training);
    while (run.training.state().step < last) run.training.step();
    save_checkpoint(to, run.training);
  };
  if (ranks == 0) {
    single_run<Config, S> run(setup);
    work(run);
    return;
  }
  run_ranks(ranks, [&](thread_communicator& group) {
    group_run<Config, S> run(setup, group);
    work(run);
  });
}

template <model_config Config, class S = float>
void check_files(rank_setup<Config> setup) {
  const scratch_directory scratch;
  setup.options.accumulation = 4;
  go_on<Config, S>(setup, 0, {}, 6, scratch / "whole");
  go_on<Config, S>(setup, 0, {}, 3, scratch / "part");
  const std::string whole = content(scratch / "whole"), part = content(scratch / "part");
  for (const auto sharding : {optimizer_sharding::none, optimizer_sharding::zero1}) {
    CAPTURE(static_cast<int>(sharding));
    setup.options.sharding = sharding;
    std::filesystem::path from;
    std::int64_t step = 0;
    // Another number of ranks after every step, among them one process.
    for (const int ranks : {3, 0, 2, 1, 4, 3}) {
      CAPTURE(ranks);
      const auto to = scratch / ("step" + std::to_string(++step));
      go_on<Config, S>(setup, ranks, from, step, to);
      if (step == 3) CHECK((content(to) == part));
      from = to;
    }
    CHECK((content(from) == whole));
  }
}

}  // namespace

TEST_CASE("files have the bytes of one process, and any number of ranks goes on from them") {
  check_files<usual>({});
}

TEST_CASE("files of bf16 runs have the bytes of one process, and any number goes on from them") {
  check_files<usual, bf16>({});
}

TEST_CASE("files of a head that is trained alone have the bytes of one process") {
  rank_setup<rank_config(head_kind::independent, 1)> setup;
  setup.options.loss.scope = gradient_scope::heads_only;
  check_files<rank_config(head_kind::independent, 1), bf16>(setup);
}

TEST_CASE("a save that fails and a file that does not fit are errors on all ranks") {
  const scratch_directory scratch;
  rank_setup<usual> setup;
  setup.options.accumulation = 3;
  setup.options.sharding = optimizer_sharding::zero1;
  go_on(setup, 0, {}, 1, scratch / "fits");
  rank_setup<usual> other = setup;
  other.options.batch = 2;
  go_on(other, 0, {}, 1, scratch / "other");
  const auto expected = train_alone(setup, 3);
  std::vector<std::string> saving(3), loading(3);
  rank_result<usual, float> result(language_model<usual, cpu>::layout.storage);
  run_ranks(3, [&](thread_communicator& group) {
    const auto rank = static_cast<std::size_t>(group.rank());
    group_run<usual, float> run(setup, group);
    run.training.step();
    saving[rank] = refusal([&] { save_checkpoint(scratch / "no" / "folder", run.training); });
    loading[rank] = refusal([&] { load_checkpoint(scratch / "other", run.training); });
    for (int step = 1; step < 3; ++step) run.training.step();
    result.take(run.training, group.rank() == 0);
  });
  for (const auto* messages : {&saving, &loading}) {
    CHECK_FALSE(messages->front().empty());
    for (std::size_t rank = 1; rank < 3; ++rank) {
      CHECK((*messages)[rank] == "rank 0: " + messages->front());
    }
  }
  CHECK(loading[0].find("run.batch differs") != std::string::npos);
  CHECK(same_bits(result.values, expected.values));  // all went on as if nothing had happened
  CHECK(same_bits(result.second, expected.second));
}

TEST_CASE("all ranks go back to the newest checkpoint that is whole, by what rank 0 finds") {
  const scratch_directory scratch;
  rank_setup<usual> setup;
  setup.options.accumulation = 2;
  setup.options.sharding = optimizer_sharding::zero1;
  const auto path = scratch / "run.safetensors";
  std::vector<newest_checkpoint> found(2);
  std::vector<std::int64_t> steps(2);
  run_ranks(2, [&](thread_communicator& group) {
    group_run<usual, float> run(setup, group);
    for (int step = 0; step < 4; ++step) {
      run.training.step();
      save_and_keep(path, run.training, 3);
    }
    if (group.rank() == 0) testing::put(path, "damaged");
    const auto rank = static_cast<std::size_t>(group.rank());
    found[rank] = load_newest_checkpoint(path, run.training);
    steps[rank] = run.training.state().step;
  });
  CHECK(scratch.entries() == 3);
  for (std::size_t rank = 0; rank < 2; ++rank) {
    CHECK(steps[rank] == 3);
    CHECK(found[rank].path == kept_checkpoint(path, 3));
    CHECK(found[rank].refused.size() == 1);
  }
}

}  // namespace mtp::test::io_ranks_checkpoint_cases
