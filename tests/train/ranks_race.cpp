// ThreadSanitizer over ranks that train together: buckets that are sent while the backward pass
// goes on, shards, a skipped step and a checkpoint.
#include <doctest/doctest.h>

#include <cstddef>
#include <limits>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/io/checkpoint.hpp"
#include "train/ranks.hpp"

namespace mtp::test::train_ranks_race_cases {

TEST_CASE("ranks that train and save touch no memory of each other but what is sent") {
  constexpr model_config config = rank_config(head_kind::sequential, 1);
  const testing::scratch_directory scratch;
  rank_setup<config> setup;
  setup.options.accumulation = 4;
  for (const auto sharding : {optimizer_sharding::none, optimizer_sharding::zero1}) {
    setup.options.sharding = sharding;
    std::vector<std::vector<float>> values(3);
    run_ranks(3, [&](thread_communicator& group) {
      group_run<config, float> run(setup, group);
      run.training.step();
      io::save_checkpoint(scratch / "run", run.training);
      run.training.step();
      io::load_checkpoint(scratch / "run", run.training);
      float& first = run.model.values().data()[0];
      const float healthy = first;
      if (group.rank() == 1) first = std::numeric_limits<float>::quiet_NaN();
      run.training.step();
      first = healthy;
      run.training.step();
      const auto all = run.model.values();
      values[static_cast<std::size_t>(group.rank())].assign(all.data(), all.data() + all.count());
    });
    CHECK(same_bits(values[1], values[0]));
    CHECK(same_bits(values[2], values[0]));
  }
}

}  // namespace mtp::test::train_ranks_race_cases
