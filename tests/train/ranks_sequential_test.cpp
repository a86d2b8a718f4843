// Data-parallel training of modules one after the other: the bits of one process.
#include <doctest/doctest.h>

#include "train/ranks.hpp"

namespace mtp::test::train_ranks_sequential_cases {

TEST_CASE("sequential heads: 1 to 4 ranks have the bits of one process with as many passes") {
  check_ranks<rank_config(head_kind::sequential, 2)>({}, {1, 2, 3, 4});
}

TEST_CASE("recurrent heads: 1 to 4 ranks have the bits of one process with as many passes") {
  check_ranks<rank_config(head_kind::recurrent, 2, true)>({}, {1, 2, 3, 4});
}

TEST_CASE("heads trained alone or detached have the bits of one process on several ranks") {
  for (const auto scope : {gradient_scope::heads_only, gradient_scope::detached}) {
    rank_setup<rank_config(head_kind::sequential, 2)> setup;
    setup.options.loss.scope = scope;
    setup.options.accumulation = 5;
    check_ranks(setup, {2, 3}, 6);
  }
}

}  // namespace mtp::test::train_ranks_sequential_cases
