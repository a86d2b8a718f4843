// Training of models with other heads that ranks have parts of, against one process.
#include <doctest/doctest.h>

#include "train/tensor_parallel.hpp"

namespace mtp::test::train_tensor_parallel_heads_cases {

TEST_CASE("parallel heads on 2 ranks: 20 steps are those of one process") {
  check_training<rank_config(head_kind::parallel, 1, true), 2>();
}

TEST_CASE("independent heads on 2 ranks: 20 steps are those of one process") {
  check_training<rank_config(head_kind::independent, 1), 2>();
}

}  // namespace mtp::test::train_tensor_parallel_heads_cases
