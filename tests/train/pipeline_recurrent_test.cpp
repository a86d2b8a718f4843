// Stages of models with a recurrent head, and with shared logits; masks and detached heads.
#include <doctest/doctest.h>

#include "train/pipeline.hpp"

namespace mtp::test::train_pipeline_recurrent_cases {

TEST_CASE("a recurrent head in stages: the bits of one process") {
  rank_setup<pipeline_config(head_kind::recurrent, 2, true)> setup;
  setup.options.accumulation = 4;
  check_stages(setup, {2, 3}, 4);
}

TEST_CASE("detached modules in stages: the bits of one process") {
  rank_setup<pipeline_config(head_kind::recurrent, 2, true)> setup;
  setup.options.accumulation = 4;
  setup.options.loss.scope = gradient_scope::detached;
  check_stages(setup, {3}, 4);
}

TEST_CASE("masks and documents in stages: targets are those of all passes") {
  rank_setup<pipeline_config(head_kind::recurrent, 2, true)> setup;
  setup.options.accumulation = 4;
  setup.make_uneven();
  check_stages(setup, {3}, 4);
}

TEST_CASE("shared logits in stages: the bits of one process") {
  rank_setup<pipeline_config(head_kind::shared_logit, 2)> setup;
  setup.options.accumulation = 4;
  check_stages(setup, {3}, 4);
}

}  // namespace mtp::test::train_pipeline_recurrent_cases
