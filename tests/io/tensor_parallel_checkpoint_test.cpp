// Checkpoints of models that ranks have parts of: the bytes of one process, resumed by any number
// of ranks.
#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <string>

#include "io/scratch.hpp"
#include "mtp/io/checkpoint.hpp"
#include "train/tensor_parallel.hpp"

namespace mtp::test::io_tensor_parallel_checkpoint_cases {

namespace {

using namespace mtp::io;
using mtp::testing::content;
using mtp::testing::scratch_directory;

/// Loads `from`, if it is given, goes on up to step `last` and saves to `to`, on one process.
template <model_config Config, class S>
void go_on_alone(const std::filesystem::path& from,
                 std::int64_t last,
                 const std::filesystem::path& to) {
  single_run<Config, S> run(short_setup<rank_setup<Config>>());
  if (!from.empty()) load_checkpoint(from, run.training);
  while (run.training.state().step < last) run.training.step();
  save_checkpoint(to, run.training);
}

/// The same on 2 ranks, with copies.
template <model_config Config, class S>
void go_on_in_parts(const std::filesystem::path& from,
                    std::int64_t last,
                    const std::filesystem::path& to,
                    int copies,
                    optimizer_sharding sharding) {
  constexpr model_config divided = tensor_parallel(Config, 2);
  auto setup = short_setup<rank_setup<divided>>();
  setup.options.sharding = sharding;
  run_ranks(2 * copies, [&](thread_communicator& all) {
    thread_communicator of_model = all.split(all.rank() / 2, all.rank());
    thread_communicator of_copies = all.split(all.rank() % 2, all.rank());
    tensor_ranks ranks(of_model);
    cpu_context context({.threads = 1, .workspace_bytes = 0});
    context.join(ranks);
    using trainer_type = group_trainer<divided, S>;
    const dataset<> data(setup.text,
                         setup.document_starts,
                         {.window = trainer_type::window_of(setup.options.length),
                          .validation_share = 0.1,
                          .seed = seed{1}},
                         setup.mask);
    language_model<divided, cpu, S> model(context, seed{2});
    trainer_type run(context, model, data, setup.options, of_copies);
    if (!from.empty()) load_checkpoint(from, run);
    while (run.state().step < last) run.step();
    save_checkpoint(to, run);
  });
}

template <model_config Config, class S>
void check_files() {
  const scratch_directory scratch;
  go_on_alone<Config, S>({}, 3, scratch / "alone");
  const std::string alone = content(scratch / "alone");
  for (const auto sharding : {optimizer_sharding::none, optimizer_sharding::zero1}) {
    for (const int copies : {1, 2}) {
      CAPTURE(copies);
      // Nothing is lost on the way into parts and back.
      go_on_in_parts<Config, S>(scratch / "alone", 3, scratch / "parts", copies, sharding);
      CHECK((content(scratch / "parts") == alone));
      // A run that is interrupted has the bits of one that is not.
      go_on_in_parts<Config, S>(scratch / "alone", 5, scratch / "at_once", copies, sharding);
      go_on_in_parts<Config, S>(scratch / "alone", 4, scratch / "half", copies, sharding);
      go_on_in_parts<Config, S>(scratch / "half", 5, scratch / "resumed", 1, {});
      CHECK((content(scratch / "resumed") == content(scratch / "at_once")));
      // One process goes on from what ranks have written.
      go_on_alone<Config, S>(scratch / "half", 4, scratch / "whole");
      CHECK((content(scratch / "whole") == content(scratch / "half")));
    }
  }
}

}  // namespace

TEST_CASE("files of ranks that have parts have the bytes of one process, and any number goes on") {
  check_files<rank_config(head_kind::sequential, 1), float>();
}

TEST_CASE("files of parts in bf16, with masters, have the bytes of one process") {
  check_files<rank_config(head_kind::none, 0, true), bf16>();
}

TEST_CASE("a file that no rank can read makes all of them throw, with nothing changed") {
  constexpr auto config = rank_config(head_kind::none, 0);
  const scratch_directory scratch;
  go_on_in_parts<config, float>({}, 1, scratch / "run", 1, {});
  std::filesystem::resize_file(scratch / "run", std::filesystem::file_size(scratch / "run") - 4);
  CHECK_THROWS_AS((go_on_in_parts<config, float>(scratch / "run", 2, scratch / "to", 1, {})),
                  mtp::error);
  CHECK_FALSE(std::filesystem::exists(scratch / "to"));
  CHECK_THROWS_AS((go_on_in_parts<config, float>({}, 1, scratch / "no" / "folder", 2, {})),
                  mtp::error);
}

}  // namespace mtp::test::io_tensor_parallel_checkpoint_cases
