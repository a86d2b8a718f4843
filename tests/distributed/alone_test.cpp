#include "mtp/distributed/alone.hpp"

#include <doctest/doctest.h>

#include <vector>

namespace mtp::test::distributed_alone_cases {

TEST_CASE("a process alone keeps its values in every collective call") {
  alone group;
  CHECK(group.rank() == 0);
  CHECK(group.size() == 1);
  std::vector<float> x{1, 2, 3};
  const std::vector<float> before = x;
  group.barrier();
  group.broadcast(std::span(x), 0);
  group.all_gather(std::span(x), shards(3, 1));
  group.all_reduce(std::span(x), reduction::sum);
  group.all_reduce(std::span(x), reduction::min);
  group.reduce_scatter(std::span(x), shards(3, 1));
  CHECK(x == before);
  alone part = group.split(3, 0);
  CHECK(part.size() == 1);
}

TEST_CASE("a process alone refuses messages, other ranks and wrong shards") {
  alone group;
  std::vector<float> x(3);
  CHECK_THROWS_WITH_AS(
      group.send(std::span(x), 1, 0), "send: a process alone has no rank 1 to send to", error);
  CHECK_THROWS_AS(group.receive(std::span(x), 1, 0), error);
  CHECK_THROWS_AS(group.start_send(std::span(x), 1, 0), error);
  CHECK_THROWS_AS(group.start_receive(std::span(x), 1, 0), error);
  CHECK_THROWS_WITH_AS(group.broadcast(std::span(x), 1),
                       "broadcast: a rank of 0 to 0 was expected, but rank 0 of 1 passed 1",
                       error);
  CHECK_THROWS_WITH_AS(
      group.all_gather(std::span(x), shards(3, 2)),
      "all_gather: shards of 3 elements for 1 ranks were expected, but shards of 3 for 2 came",
      error);
  CHECK_THROWS_AS(group.reduce_scatter(std::span(x), shards(4, 1)), error);
  CHECK_THROWS_AS(group.split(-1, 0), error);
}

}  // namespace mtp::test::distributed_alone_cases
