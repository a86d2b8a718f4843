// Processes of MPI that train together: the bits and the files of one process, which each of them
// runs as well.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/io/checkpoint.hpp"
#include "support/ranks.hpp"
#include "train/ranks.hpp"

namespace mtp::test::train_trainer_ranks_cases {

namespace {

template <model_config Config, class S>
void check_processes(rank_setup<Config> setup) {
  using trainer_type = trainer<Config, cpu, S, std::uint8_t, mpi_communicator>;
  setup.options.accumulation = 5;
  setup.make_uneven();
  std::optional<mtp::testing::scratch_directory> scratch;  // of rank 0
  if (world().rank() == 0) scratch.emplace();
  const auto place = [&](const char* name) {
    return scratch ? *scratch / name : std::filesystem::path("nowhere");
  };
  for (const auto sharding : {optimizer_sharding::none, optimizer_sharding::zero1}) {
    CAPTURE(static_cast<int>(sharding));
    setup.options.sharding = sharding;
    single_run<Config, S> alone(setup);
    rank_run<trainer_type, rank_setup<Config>> run(setup, world());
    for (int step = 0; step < 4; ++step) {
      CHECK(same_bits(numbers_of(run.training.step()), numbers_of(alone.training.step())));
    }
    io::save_checkpoint(place("ranks"), run.training);
    if (scratch) {
      io::save_checkpoint(place("alone"), alone.training);
      CHECK((mtp::testing::content(place("ranks")) == mtp::testing::content(place("alone"))));
    }
    run.training.step();
    io::load_checkpoint(place("ranks"), run.training);
    for (int step = 0; step < 2; ++step) {
      run.training.step();
      alone.training.step();
    }
    const auto own = run.model.values(), whole = alone.model.values();
    CHECK(same_bits(std::vector<S>(own.data(), own.data() + own.count()),
                    std::vector<S>(whole.data(), whole.data() + whole.count())));
    auto& optimizer = run.training.optimizer();
    const auto part = optimizer.second(), all = alone.training.optimizer().second();
    CHECK(std::equal(part.data(), part.data() + part.count(), all.data() + optimizer.begin()));
  }
}

}  // namespace

TEST_CASE("processes of MPI have the bits of one process") {
  check_processes<rank_config(head_kind::sequential, 1), float>({});
}

TEST_CASE("processes of MPI have the bits of one process in bf16") {
  check_processes<rank_config(head_kind::parallel, 1), bf16>({});
}

}  // namespace mtp::test::train_trainer_ranks_cases
