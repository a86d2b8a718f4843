#include "mtp/distributed/shards.hpp"

#include <doctest/doctest.h>

#include <limits>

namespace mtp::test::distributed_shards_cases {

TEST_CASE("shards cover all elements once, in order, on multiples of the unit") {
  for (const index_t count : {0, 1, 2, 3, 7, 16, 63, 64, 65, 1000}) {
    for (int ranks = 1; ranks <= 9; ++ranks) {
      for (const index_t unit : {1, 2, 3, 16, 64, 2000}) {
        CAPTURE(count);
        CAPTURE(ranks);
        CAPTURE(unit);
        const shards parts(count, ranks, unit);
        index_t next = 0;
        for (int rank = 0; rank < ranks; ++rank) {
          REQUIRE(parts.begin(rank) == next);
          REQUIRE(parts.size(rank) >= 0);
          REQUIRE(parts.size(rank) <= parts.longest());
          next = parts.end(rank);
          REQUIRE((next % unit == 0 || next == count));
        }
        CHECK(next == count);
        CHECK(parts.size(0) == parts.longest());
        // No rank has a unit more than the even share.
        CHECK(parts.longest() <= ((count + unit - 1) / unit + ranks - 1) / ranks * unit);
      }
    }
  }
}

TEST_CASE("shards are those of the formula") {
  constexpr shards parts(10, 4, 2);  // five units: two each for the first two ranks
  CHECK(parts.begin(0) == 0);
  CHECK(parts.end(0) == 4);
  CHECK(parts.begin(1) == 4);
  CHECK(parts.end(1) == 8);
  CHECK(parts.begin(2) == 8);
  CHECK(parts.end(2) == 10);
  CHECK(parts.size(3) == 0);
  static_assert(parts.count() == 10 && parts.ranks() == 4);
  CHECK(parts == shards(10, 4, 2));
  CHECK(parts != shards(10, 4, 1));
}

TEST_CASE("shards of the largest counts do not overflow") {
  constexpr index_t most = (std::numeric_limits<index_t>::max)();
  for (const index_t unit : {index_t{1}, index_t{64}, most - 1, most}) {
    const shards parts(most, 3, unit);
    index_t sum = 0;
    for (int rank = 0; rank < 3; ++rank) sum += parts.size(rank);
    CHECK(sum == most);
    CHECK(parts.end(2) == most);
  }
}

TEST_CASE("shards refuse what makes no sense") {
  CHECK_THROWS_WITH_AS(
      shards(-1, 2), "shards: a count of at least 0 was expected, but -1 came", error);
  CHECK_THROWS_WITH_AS(shards(4, 0), "shards: at least 1 rank was expected, but 0 came", error);
  CHECK_THROWS_WITH_AS(
      shards(4, 2, 0), "shards: a unit of at least 1 element was expected, but 0 came", error);
  const shards parts(4, 2);
  CHECK_THROWS_WITH_AS(parts.begin(2), "shards: a rank below 2 was expected, but 2 came", error);
  CHECK_THROWS_AS(parts.end(-1), error);
  CHECK_THROWS_AS(parts.size(2), error);
}

}  // namespace mtp::test::distributed_shards_cases
