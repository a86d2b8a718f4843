// Checkpoints of a model that GPUs have parts of. With threads as GPUs and a stub of NCCL.
#include <cuda_runtime.h>
// The emulation comes first.
#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>

#include "mtp/distributed/nccl_tensor_ranks.cuh"
// The backend comes before what is made for it.
#include "distributed/nccl_runs.hpp"
#include "io/scratch.hpp"
#include "mtp/distributed/thread_ranks.hpp"
#include "mtp/io/checkpoint.hpp"

namespace mtp::test::distributed_nccl_checkpoint_cases {

namespace {

using mtp::testing::content;
using mtp::testing::scratch_directory;

/// Loads `from`, if it is given, goes on up to step `last`, and saves to `to`.
template <model_config Config>
void go_on(cuda_context& context,
           const std::filesystem::path& from,
           std::int64_t last,
           const std::filesystem::path& to) {
  using trainer_type = trainer<Config, cuda>;
  language_model<Config, cuda> model(context, seed{5});
  const auto text = text_of_runs();
  const auto options = options_of_run<Config>();
  const dataset<> data(text, {}, {.window = trainer_type::window_of(options.length)});
  trainer_type run(context, model, data, options);
  if (!from.empty()) io::load_checkpoint(from, run);
  while (run.state().step < last) check(!run.step().skipped, "a step was skipped");
  io::save_checkpoint(to, run);
}

void go_on_alone(const std::filesystem::path& from,
                 std::int64_t last,
                 const std::filesystem::path& to) {
  cuda_context context({.workspace_bytes = 1 << 22, .product_bytes = 1 << 16});
  go_on<whole_of_run>(context, from, last, to);
}

void go_on_in_parts(const std::filesystem::path& from,
                    std::int64_t last,
                    const std::filesystem::path& to) {
  run_ranks(2, [&](thread_communicator& hosts) {
    cuda_context context({.workspace_bytes = 1 << 22, .product_bytes = 1 << 16});
    nccl_communicator group(context, hosts);
    nccl_tensor_ranks ranks(group);
    context.join(ranks);
    go_on<part_of_run>(context, from, last, to);
  });
}

}  // namespace

TEST_CASE("files of GPUs that have parts have the bytes of one GPU, and either goes on from them") {
  const scratch_directory scratch;
  go_on_alone({}, 2, scratch / "alone");
  go_on_in_parts(scratch / "alone", 2, scratch / "parts");
  CHECK((content(scratch / "parts") == content(scratch / "alone")));
  go_on_in_parts(scratch / "alone", 4, scratch / "at_once");
  go_on_in_parts(scratch / "alone", 3, scratch / "half");
  go_on_in_parts(scratch / "half", 4, scratch / "resumed");
  CHECK((content(scratch / "resumed") == content(scratch / "at_once")));
  CHECK((content(scratch / "resumed") != content(scratch / "half")));
  go_on_alone(scratch / "half", 3, scratch / "back");
  CHECK((content(scratch / "back") == content(scratch / "half")));
}

}  // namespace mtp::test::distributed_nccl_checkpoint_cases
