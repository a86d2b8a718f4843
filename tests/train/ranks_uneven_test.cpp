// Data-parallel training where passes have different numbers of targets.
#include <doctest/doctest.h>

#include "train/ranks.hpp"

namespace mtp::test::train_ranks_uneven_cases {

TEST_CASE(
    "masks and documents: targets are those of all ranks, and the bits those of one process") {
  rank_setup<rank_config(head_kind::sequential, 2)> setup;
  setup.make_uneven();
  check_ranks(setup, {2, 4}, 8);
  setup.options.accumulation = 5;
  check_ranks(setup, {2, 3}, 8);
}

TEST_CASE("buckets of any size give the same bits") {
  rank_setup<rank_config(head_kind::parallel, 1)> setup;
  setup.options.accumulation = 3;
  const auto expected = train_alone(setup, 3);
  setup.options.sharding = optimizer_sharding::zero1;
  for (const index_t bucket : {index_t{333}, index_t{1} << 14, index_t{1} << 40}) {
    CAPTURE(bucket);
    setup.options.bucket_elements = bucket;
    check_same(train_on(3, setup, 3), expected);
  }
}

}  // namespace mtp::test::train_ranks_uneven_cases
