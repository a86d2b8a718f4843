// Processes of MPI that have parts of a model: the bits of threads, so sums do not depend on the
// engine.
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "mtp/distributed/tensor_ranks.hpp"
#include "support/ranks.hpp"
#include "train/tensor_parallel.hpp"

namespace mtp::test::train_tensor_parallel_ranks_cases {

TEST_CASE("2 processes have a model together, and 4 two copies of it, with the bits of threads") {
  if (world().size() % 2 != 0) return;
  constexpr auto config = rank_config(head_kind::sequential, 1);
  constexpr model_config divided = tensor_parallel(config, 2);
  using trainer_type = trainer<divided, cpu, float, std::uint8_t, mpi_communicator>;
  const auto setup = short_setup<rank_setup<divided>>();
  const auto expected = train_parts<config, 2>(setup, 1, 4);

  mpi_communicator of_model = world().split(world().rank() / 2, world().rank());
  mpi_communicator of_copies = world().split(world().rank() % 2, world().rank());
  tensor_ranks ranks(of_model);
  cpu_context context({.threads = 1, .workspace_bytes = 0});
  context.join(ranks);
  const dataset<> data(setup.text,
                       setup.document_starts,
                       {.window = trainer_type::window_of(setup.options.length),
                        .validation_share = 0.1,
                        .seed = seed{1}},
                       setup.mask);
  language_model<divided, cpu> model(context, seed{2});
  trainer_type run(context, model, data, setup.options, of_copies);
  for (std::size_t step = 0; step < 4; ++step) {
    CHECK(same_bits(numbers_of(run.step()), expected.whole.reports[step]));
  }
  const auto own = model.values();
  CHECK(same_bits(std::vector<float>(own.data(), own.data() + own.count()),
                  part_of<config, 2, float>(expected.whole.values, ranks.rank())));
}

}  // namespace mtp::test::train_tensor_parallel_ranks_cases
