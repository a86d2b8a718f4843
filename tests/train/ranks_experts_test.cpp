// Data-parallel training of mixtures of experts whose loads are balanced.
#include <doctest/doctest.h>

#include "train/ranks.hpp"

namespace mtp::test::train_ranks_experts_cases {

namespace {

constexpr model_config experts(head_kind head, int depth) {
  model_config config = rank_config(head, depth);
  config.num_hidden_layers = 3;
  config.feed_forward = {.kind = feed_forward_kind::mixture_of_experts,
                         .intermediate_size = 40,
                         .first_k_dense_replace = 1,
                         .n_routed_experts = 6,
                         .num_experts_per_tok = 3,
                         .moe_intermediate_size = 16,
                         .n_shared_experts = 1,
                         .n_group = 3,
                         .topk_group = 2,
                         .routed_scaling_factor = 1.5f};
  return config;
}

template <class S>
void check_experts() {
  rank_setup<experts(head_kind::sequential, 1)> setup;
  setup.options.bias_update_speed = 0.01;
  setup.options.loss.aux_loss_alpha = 0.001;
  const auto expected = train_alone<experts(head_kind::sequential, 1), S>(setup, 1);
  CHECK(expected.reports[0][5] == 3);  // routers that were counted
  check_ranks<experts(head_kind::sequential, 1), S>(setup, {1, 2, 3, 4});
}

}  // namespace

TEST_CASE("experts: loads are those of all ranks, and parameters have the bits of one process") {
  check_experts<float>();
}

TEST_CASE("experts in bf16: the masters of biases are where the shards are") {
  check_experts<bf16>();
}

}  // namespace mtp::test::train_ranks_experts_cases
