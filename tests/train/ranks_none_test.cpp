// Data-parallel training without a head: the bits of one process on any number of ranks.
#include <doctest/doctest.h>

#include "train/ranks.hpp"

namespace mtp::test::train_ranks_none_cases {

TEST_CASE("no head: 1 to 4 ranks have the bits of one process with as many passes") {
  check_ranks<rank_config(head_kind::none, 0)>({}, {1, 2, 3, 4});
}

TEST_CASE("ranks that do not divide the passes have the bits of one process") {
  rank_setup<rank_config(head_kind::none, 0, true)> setup;
  setup.options.accumulation = 5;
  check_ranks(setup, {2, 3});
}

}  // namespace mtp::test::train_ranks_none_cases
