// Checkpoints of a model in stages: the bytes of one process, resumed by any number of stages.
#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "io/scratch.hpp"
#include "mtp/io/pipeline_checkpoint.hpp"
#include "train/pipeline.hpp"

namespace mtp::test::io_pipeline_checkpoint_cases {

namespace {

using namespace mtp::io;
using mtp::testing::content;
using mtp::testing::scratch_directory;

/// Goes on from `from`, if it is given, up to step `last`, and saves into `to`. 0 stages are one
/// process without a group, 22 two copies of two stages, with ZeRO-1, 13 three copies of one.
template <model_config Config, class S>
void go_on(rank_setup<Config> setup,
           int stages,
           head_placement placement,
           const std::filesystem::path& from,
           std::int64_t last,
           const std::filesystem::path& to) {
  const auto work = [&](auto& run) {
    if (!from.empty()) load_checkpoint(from, run.training);
    while (run.training.state().step < last) run.training.step();
    save_checkpoint(to, run.training);
  };
  if (stages == 0) {
    single_run<Config, S> run(setup);
    work(run);
    return;
  }
  const int copies = stages > 10 ? stages % 10 : 1;
  if (stages == 22) setup.options.sharding = optimizer_sharding::zero1;
  run_ranks(stages > 10 ? stages / 10 * copies : stages, [&](thread_communicator& group) {
    pipeline_run<Config, S> run(setup, group, placement, copies);
    work(run);
  });
}

template <model_config Config, class S>
void check_files() {
  const scratch_directory scratch;
  rank_setup<Config> setup;
  setup.options.accumulation = 3;
  go_on<Config, S>(setup, 0, {}, {}, 6, scratch / "whole");
  const std::string whole = content(scratch / "whole");
  for (const head_placement placement : placements) {
    CAPTURE(static_cast<int>(placement));
    std::filesystem::path from;
    std::int64_t step = 0;
    // Another number of stages after every step, among them one process.
    for (const int stages : {3, 0, 22, 13, 1, 2}) {
      CAPTURE(stages);
      const auto to = scratch / ("step" + std::to_string(++step));
      go_on<Config, S>(setup, stages, placement, from, step, to);
      from = to;
    }
    CHECK((content(from) == whole));
  }
}

}  // namespace

TEST_CASE("files of stages have the bytes of one process, and any number of stages goes on") {
  check_files<pipeline_config(head_kind::sequential, 1), float>();
}

TEST_CASE("files of stages in bf16 with tied embeddings have the bytes of one process") {
  check_files<pipeline_config(head_kind::sequential, 1, true), bf16>();
}

}  // namespace mtp::test::io_pipeline_checkpoint_cases
