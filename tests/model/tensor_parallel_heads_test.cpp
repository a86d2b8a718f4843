// Tensor parallel models with every other kind of head, against one process.
#include <doctest/doctest.h>

#include "model/tensor_parallel.hpp"

namespace mtp::test::model_tensor_parallel_heads_cases {

TEST_CASE("parallel heads on 2 ranks: losses, logits and gradients of one process") {
  check_ranks_of_one_pass<for_ranks(flipped_config(head_kind::parallel, 2), 2), 2>(
      loss_normalization::valid_targets);
}

TEST_CASE("independent heads on 2 ranks: losses, logits and gradients of one process") {
  check_ranks_of_one_pass<for_ranks(flipped_config(head_kind::independent, 2), 2), 2>(
      loss_normalization::positions);
}

TEST_CASE("one row of logits for all depths on 2 ranks: losses and gradients of one process") {
  check_ranks_of_one_pass<for_ranks(tiny_config(head_kind::shared_logit, 2), 2), 2>(
      loss_normalization::valid_targets);
}

}  // namespace mtp::test::model_tensor_parallel_heads_cases
