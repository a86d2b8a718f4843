// Stages of models with heads that are no chain of modules.
#include <doctest/doctest.h>

#include "train/pipeline.hpp"

namespace mtp::test::train_pipeline_heads_cases {

namespace {

template <model_config Config>
void check_head() {
  rank_setup<Config> setup;
  setup.options.accumulation = 4;
  check_stages(setup, {2, 3}, 4);
}

}  // namespace

TEST_CASE("parallel heads in stages: the bits of one process") {
  check_head<pipeline_config(head_kind::parallel, 2)>();
  check_head<pipeline_config(head_kind::parallel, 2, true)>();
}

TEST_CASE("independent heads in stages: the bits of one process") {
  check_head<pipeline_config(head_kind::independent, 2)>();
}

TEST_CASE("a model without a head in stages: the bits of one process") {
  check_head<pipeline_config(head_kind::none, 0)>();
  check_head<pipeline_config(head_kind::none, 0, true)>();
}

}  // namespace mtp::test::train_pipeline_heads_cases
