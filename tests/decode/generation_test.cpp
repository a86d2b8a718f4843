#include "mtp/decode/generation.hpp"

#include <doctest/doctest.h>

namespace mtp::test::decode_generation_cases {

TEST_CASE("shares of a result are 0 where nothing was drafted or run") {
  generation<2> result;
  CHECK(result.acceptance(0) == 0);
  CHECK(result.tokens_per_forward() == 0);
  result.tokens = {1, 2, 3};
  result.forward_passes = 2;
  result.drafted = {4, 2};
  result.accepted = {3, 1};
  CHECK(result.acceptance(0) == 0.75);
  CHECK(result.acceptance(1) == 0.5);
  CHECK(result.tokens_per_forward() == 1.5);
}

TEST_CASE("seconds of a cycle add up") {
  CHECK(cycle_seconds{}.total() == 0);
  CHECK(cycle_seconds{0.25, 0.5, 1}.total() == 1.75);
}

}  // namespace mtp::test::decode_generation_cases
