// Stages of models with bf16 and f64 elements, and with mixtures of experts behind dense blocks.
#include <doctest/doctest.h>

#include "train/pipeline.hpp"

namespace mtp::test::train_pipeline_elements_cases {

namespace {

constexpr model_config experts() {
  model_config config = pipeline_config(head_kind::sequential, 1);
  config.feed_forward = {.kind = feed_forward_kind::mixture_of_experts,
                         .intermediate_size = 40,
                         .first_k_dense_replace = 2,
                         .n_routed_experts = 6,
                         .num_experts_per_tok = 3,
                         .moe_intermediate_size = 16,
                         .n_shared_experts = 1,
                         .n_group = 3,
                         .topk_group = 2,
                         .routed_scaling_factor = 1.5f};
  return config;
}

}  // namespace

TEST_CASE("bf16 in stages: parameters, masters and moments have the bits of one process") {
  rank_setup<pipeline_config(head_kind::sequential, 1)> setup;
  setup.options.accumulation = 4;
  check_stages<pipeline_config(head_kind::sequential, 1), bf16>(setup, {3}, 4);
  setup.options.sharding = optimizer_sharding::zero1;
  check_copies<pipeline_config(head_kind::sequential, 1), bf16>(
      setup, 2, 2, {head_placement::last_stage}, 3);
}

TEST_CASE("f64 in stages: parameters and moments have the bits of one process") {
  rank_setup<pipeline_config(head_kind::parallel, 1)> setup;
  setup.options.accumulation = 4;
  check_stages<pipeline_config(head_kind::parallel, 1), double>(setup, {3}, 4);
}

TEST_CASE(
    "experts in bf16 in stages: loads are those of all, biases have the bits of one process") {
  rank_setup<experts()> setup;
  setup.options.accumulation = 4;
  setup.options.bias_update_speed = 0.01;
  setup.options.loss.aux_loss_alpha = 0.001;
  const auto expected = train_alone<experts(), bf16>(setup, 1);
  CHECK(expected.reports[0][5] == 3);  // routers: two blocks and the module
  check_stages<experts(), bf16>(setup, {2, 3}, 4);
  for (const auto sharding : {optimizer_sharding::none, optimizer_sharding::zero1}) {
    setup.options.sharding = sharding;
    check_copies<experts(), bf16>(setup, 2, 2, {head_placement::first_stage}, 3);
  }
}

}  // namespace mtp::test::train_pipeline_elements_cases
