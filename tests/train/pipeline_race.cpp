// ThreadSanitizer over a model that is trained in stages: messages that travel while passes are
// computed, embeddings on two ranks, a skipped step and a checkpoint.
#include <doctest/doctest.h>

#include <cstddef>
#include <limits>

#include "io/scratch.hpp"
#include "mtp/io/pipeline_checkpoint.hpp"
#include "train/pipeline.hpp"

namespace mtp::test::train_pipeline_race_cases {

TEST_CASE("stages that train and save touch no memory of each other but what is sent") {
  constexpr model_config config = pipeline_config(head_kind::sequential, 1);
  const testing::scratch_directory scratch;
  rank_setup<config> setup;
  setup.options.accumulation = 4;
  const auto expected = train_alone<config>(setup, 3);
  for (const head_placement placement : placements) {
    rank_result<config, float> result(language_model<config, cpu, float>::layout.storage);
    run_ranks(3, [&](thread_communicator& group) {
      pipeline_run<config> run(setup, group, placement);
      run.training.step();
      io::save_checkpoint(scratch / "run", run.training);
      float& first = run.model.values().data()[run.model.layout.copy.count];
      const float healthy = first;
      if (group.rank() == 1) first = std::numeric_limits<float>::quiet_NaN();
      run.training.step();
      first = healthy;
      io::load_checkpoint(scratch / "run", run.training);
      run.training.step();
      run.training.step();
      take_stage(result, run.training);
    });
    CHECK(same_bits(result.values, expected.values));
  }
}

TEST_CASE("copies of stages touch no gradients of each other that are under way") {
  constexpr model_config config = pipeline_config(head_kind::sequential, 1, true);
  rank_setup<config> setup;
  setup.options.accumulation = 5;
  setup.options.bucket_elements = 4000;
  const auto expected = train_alone<config>(setup, 2);
  for (const head_placement placement : placements) {
    check_same(train_in_stages<config>(4, placement, setup, 2, 2), expected);
  }
}

}  // namespace mtp::test::train_pipeline_race_cases
