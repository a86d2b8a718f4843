// Data-parallel training of heads beside each other: the bits of one process.
#include <doctest/doctest.h>

#include "train/ranks.hpp"

namespace mtp::test::train_ranks_parallel_cases {

TEST_CASE("parallel heads: 1 to 4 ranks have the bits of one process with as many passes") {
  check_ranks<rank_config(head_kind::parallel, 2)>({}, {1, 2, 3, 4});
}

TEST_CASE("independent heads: 1 to 4 ranks have the bits of one process with as many passes") {
  check_ranks<rank_config(head_kind::independent, 2, true)>({}, {1, 2, 3, 4});
}

TEST_CASE("shared logits: 1 to 4 ranks have the bits of one process with as many passes") {
  check_ranks<rank_config(head_kind::shared_logit, 2)>({}, {1, 2, 3, 4});
}

}  // namespace mtp::test::train_ranks_parallel_cases
