// Training of modules one after the other that ranks have parts of, against one process.
#include <doctest/doctest.h>

#include "train/tensor_parallel.hpp"

namespace mtp::test::train_tensor_parallel_sequential_cases {

TEST_CASE("sequential heads on 2 ranks: 20 steps are those of one process, with one norm") {
  check_training<rank_config(head_kind::sequential, 2), 2>();
}

TEST_CASE("recurrent heads with tied embeddings on 2 ranks: 20 steps are those of one process") {
  check_training<rank_config(head_kind::recurrent, 2, true), 2>();
}

}  // namespace mtp::test::train_tensor_parallel_sequential_cases
