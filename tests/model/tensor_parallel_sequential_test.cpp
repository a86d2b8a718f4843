// Tensor parallel models with modules one after the other, against one process.
#include <doctest/doctest.h>

#include "model/tensor_parallel.hpp"

namespace mtp::test::model_tensor_parallel_sequential_cases {

TEST_CASE("sequential heads on 2 ranks: losses, logits and gradients of one process") {
  constexpr auto plain = for_ranks(tiny_config(head_kind::sequential, 2), 2);
  check_ranks_of_one_pass<plain, 2>(loss_normalization::valid_targets);
  check_ranks_of_one_pass<plain, 2>(loss_normalization::positions, gradient_scope::detached);
}

TEST_CASE(
    "sequential heads on 2 ranks with every option flipped, tied and grouped heads among them") {
  constexpr auto flipped = for_ranks(flipped_config(head_kind::sequential, 2), 2);
  check_ranks_of_one_pass<flipped, 2>(loss_normalization::positions);
}

TEST_CASE("first values of a rank are those of the whole model, bit by bit") {
  check_first_values<for_ranks(flipped_config(head_kind::sequential, 1), 2), 2>();
  check_first_values<for_ranks(tiny_config(head_kind::sequential, 1), 2), 2, bf16>();
}

}  // namespace mtp::test::model_tensor_parallel_sequential_cases
