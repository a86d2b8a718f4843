// Earlier checkpoints beside the latest one: which are there, and which a run resumes from.
#include "mtp/io/kept_checkpoints.hpp"

#include <cstdint>
#include <doctest/doctest.h>
#include <filesystem>
#include <string>
#include <vector>

#include "io/scratch.hpp"
#include "support/model.hpp"
#include "train/small_run.hpp"

namespace mtp::test::io_kept_checkpoints_cases {

namespace {

using namespace mtp::io;
using namespace mtp::testing;

constexpr model_config config = tiny_config(head_kind::none, 0);

/// The steps of the latest and of the kept ones, by what the files hold: "3 2 1".
std::string steps_in(const std::filesystem::path& latest) {
  std::string steps = std::to_string(step_of_checkpoint(latest).value_or(-1));
  for (const auto& path : kept_checkpoints(latest)) {
    const std::int64_t step = step_of_checkpoint(path).value_or(-1);
    CHECK(path == kept_checkpoint(latest, step));
    steps += " " + std::to_string(step);
  }
  return steps;
}

void damage(const std::filesystem::path& path) {
  std::string bytes = content(path);
  bytes[bytes.size() / 2] ^= 1;
  std::filesystem::remove(path);  // not the other names of the file
  put(path, bytes);
}

}  // namespace

TEST_CASE("as many checkpoints are kept as were asked for and the oldest go") {
  const scratch_directory scratch;
  const auto latest = scratch / "a run.v2.safetensors";
  put(scratch / "a run.v2.step-x.safetensors", "");
  put(scratch / "a run.v2.step-07.safetensors", "");
  put(scratch / "other.step-1.safetensors", "");
  small_run<config> run;
  const auto save = [&](std::int64_t step, index_t count) {
    run.advance(step);
    save_and_keep(latest, run.training, count);
    return steps_in(latest);
  };
  CHECK(save(1, 3) == "1");
  CHECK(kept_checkpoint(latest, 1) == scratch / "a run.v2.step-1.safetensors");
  CHECK(save(2, 3) == "2 1");
  CHECK(save(2, 3) == "2 1");  // the same step again
  CHECK(save(4, 3) == "4 2 1");
  CHECK(save(10, 3) == "10 4 2");
  CHECK(save(11, 2) == "11 10");
  // None is kept from here on, and none is taken away: a file of such a name may be anybody's.
  CHECK(save(12, 1) == "12 10");
  CHECK(save(13, 1) == "13 10");
  CHECK(scratch.entries() == 5);  // with the three other files
  CHECK(contains(refusal([&] { save(14, 0); }), "expected a count of at least 1, got 0"));
}

TEST_CASE("a run that begins anew removes the kept checkpoints of its later steps") {
  const scratch_directory scratch;
  const auto latest = scratch / "run";
  small_run<config> first, second;
  for (const std::int64_t step : {1, 2, 3, 4}) {
    first.advance(step);
    save_and_keep(latest, first.training, 4);
  }
  CHECK(steps_in(latest) == "4 3 2 1");
  second.advance(2);
  save_and_keep(latest, second.training, 4);
  CHECK(steps_in(latest) == "2 1");
}

TEST_CASE("a run resumes from the newest checkpoint that is whole") {
  const scratch_directory scratch;
  const auto latest = scratch / "run.safetensors";
  small_run<config> run;
  std::vector<run_state> states;
  for (const std::int64_t step : {2, 4, 6}) {
    run.advance(step);
    save_and_keep(latest, run.training, 3);
    states.push_back(run.state());
  }
  small_run<config> resumed;
  auto found = load_newest_checkpoint(latest, resumed.training);
  CHECK(found.path == latest);
  CHECK(found.refused.empty());
  CHECK(same_run(resumed.state(), states[2]));

  damage(latest);
  found = load_newest_checkpoint(latest, resumed.training);
  CHECK(found.path == kept_checkpoint(latest, 4));
  REQUIRE(found.refused.size() == 1);
  CHECK(contains(found.refused[0], "run.safetensors"));
  CHECK(same_run(resumed.state(), states[1]));
  resumed.advance(6);
  CHECK(same_run(resumed.state(), states[2]));

  std::filesystem::remove(latest);
  damage(kept_checkpoint(latest, 4));
  found = load_newest_checkpoint(latest, resumed.training);
  CHECK(found.refused.size() == 2);
  CHECK(same_run(resumed.state(), states[0]));

  // The next save keeps what is whole.
  resumed.advance(3);
  save_and_keep(latest, resumed.training, 3);
  CHECK(steps_in(latest) == "3 2");

  damage(latest);
  damage(kept_checkpoint(latest, 2));
  const run_state before = resumed.state();
  const std::string message =
      refusal([&] { static_cast<void>(load_newest_checkpoint(latest, resumed.training)); });
  CHECK(contains(message, "run.safetensors"));
  CHECK(contains(message, "run.step-2.safetensors"));
  CHECK(same_run(resumed.state(), before));
}

TEST_CASE("a latest checkpoint that is damaged is replaced and not kept") {
  const scratch_directory scratch;
  const auto latest = scratch / "run";
  put(latest, "no checkpoint");
  small_run<config> run;
  run.advance(1);
  save_and_keep(latest, run.training, 2);
  CHECK(steps_in(latest) == "1");
  CHECK(scratch.entries() == 1);
}

TEST_CASE("the checkpoint that a symbolic link leads to is kept") {
  const scratch_directory scratch;
  const auto latest = scratch / "run";
  small_run<config> run;
  run.advance(1);
  save_and_keep(scratch / "elsewhere", run.training, 1);
  std::filesystem::create_symlink("elsewhere", latest);
  run.advance(2);
  save_and_keep(latest, run.training, 2);
  CHECK(steps_in(latest) == "2 1");
  CHECK(!std::filesystem::is_symlink(kept_checkpoint(latest, 1)));
}

}  // namespace mtp::test::io_kept_checkpoints_cases
