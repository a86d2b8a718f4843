// ThreadSanitizer over ranks that have parts of a model, and copies of it.
#include <doctest/doctest.h>

#include "train/tensor_parallel.hpp"

namespace mtp::test::train_tensor_parallel_race_cases {

TEST_CASE("ranks that have parts of models touch no memory of each other but what is sent") {
  constexpr auto config = rank_config(head_kind::sequential, 1);
  auto setup = short_setup<rank_setup<tensor_parallel(config, 2)>>();
  setup.options.sharding = optimizer_sharding::zero1;
  const auto result = train_parts<config, 2>(setup, 2, 2);
  CHECK(result.reports[3].size() == 2);
}

}  // namespace mtp::test::train_tensor_parallel_race_cases
