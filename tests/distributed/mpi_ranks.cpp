#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "mtp/distributed/agreement.hpp"
#include "mtp/distributed/mpi.hpp"
#include "mtp/distributed/ordered_sum.hpp"
#include "support/communicator_kit.hpp"
#include "support/ranks.hpp"

namespace mtp::test::distributed_mpi_cases {

TEST_CASE("processes of MPI do what every engine does") {
  CHECK_NOTHROW(communicator_kit::all_collectives(world(), {0, 1, 3, 131, 1000, 70001}));
  for (const index_t count : {0, 1, 17, 1000, 300000}) {
    CHECK_NOTHROW(communicator_kit::messages(world(), count));
  }
  CHECK_NOTHROW(communicator_kit::ring(world()));
  CHECK_NOTHROW(communicator_kit::split(world()));
}

TEST_CASE("arrays that are longer than a call of MPI carries go in pieces") {
  for (const std::size_t piece : {std::size_t{8}, std::size_t{64}, std::size_t{1024}}) {
    mpi_communicator small(MPI_COMM_WORLD, {.time_limit = std::chrono::seconds(30)}, piece);
    const index_t count = piece == 1024 ? 1000 : 3 * static_cast<index_t>(piece) + 1;
    CHECK_NOTHROW(communicator_kit::collectives<float>(small, piece == 8 ? 25 : count));
    CHECK_NOTHROW(communicator_kit::collectives<std::int8_t>(small, count));
    for (const index_t sent : {index_t{0}, index_t{2}, count}) {
      CHECK_NOTHROW(communicator_kit::messages(small, sent));
    }
    if (piece == 1024) CHECK_NOTHROW(communicator_kit::split(small));
  }
  CHECK_THROWS_AS(mpi_communicator(MPI_COMM_WORLD, {}, 7), error);
}

TEST_CASE("sums in the order of ranks have the bits of one process") {
  for (const index_t count : {1, 5, 131, 300000}) {
    std::vector<float> sums, expected(static_cast<std::size_t>(count));
    for (int rank = 0; rank < world().size(); ++rank) {
      std::vector<float> x = communicator_kit::values_of<float>(rank, count);
      for (float& each : x) each = each * 1.1f + 1e4f * static_cast<float>(rank % 2);
      for (std::size_t i = 0; i < x.size(); ++i) expected[i] += x[i];
      if (rank == world().rank()) sums = x;
    }
    ordered_all_reduce(world(), std::span(sums));
    CHECK(sums == expected);
  }
}

TEST_CASE("ranks that were started with different things are named on all ranks") {
  CHECK_NOTHROW(agree(world(), {{"seed", "1"}}));
  if (world().size() == 1) return;
  const bool is_last = world().rank() == world().size() - 1;
  const std::string last = std::to_string(world().size() - 1);
  const std::string message = "agree: rank " + last + " of " + std::to_string(world().size()) +
                              " was started with something else than rank 0: seed is \"1\" on rank "
                              "0 and \"22\" on rank " +
                              last;
  CHECK_THROWS_WITH_AS(agree(world(), {{"seed", is_last ? "22" : "1"}}), message.c_str(), error);
}

TEST_CASE("arguments that no engine takes are refused, and the group goes on") {
  mpi_communicator& group = world();
  std::vector<float> x(4);
  CHECK_THROWS_AS(group.broadcast(std::span(x), group.size()), error);
  CHECK_THROWS_AS(group.send(std::span(x), -1, 0), error);
  CHECK_THROWS_AS(group.receive(std::span(x), 0, 32767), error);
  CHECK_THROWS_AS(group.all_gather(std::span(x), shards(5, group.size())), error);
  CHECK_THROWS_AS(group.reduce_scatter(std::span(x), shards(4, group.size() + 1)), error);
  CHECK_THROWS_AS(group.split(-1, 0), error);
  group.barrier();
}

TEST_CASE("a rank that never comes is named, with what the others wait in") {
  if (world().size() == 1) return;
  const int late = world().size() - 1;
  for (const bool is_message : {false, true}) {
    mpi_communicator group(MPI_COMM_WORLD, {.time_limit = std::chrono::milliseconds(1000)});
    std::string message;
    std::vector<int> x(1);
    if (group.rank() != late) {
      try {
        if (is_message && group.rank() == 0) {
          // It still waits, and answers, when the others have waited too long.
          std::this_thread::sleep_for(std::chrono::milliseconds(700));
          group.receive(std::span(x), late, 7);
        } else {
          group.barrier();
        }
      } catch (const error& problem) {
        message = problem.what();
      }
      CHECK(message.find("rank " + std::to_string(late) +
                         " does not answer: it hangs, has died, or computes") != std::string::npos);
      const std::string start = is_message && group.rank() == 0
                                    ? "receive of rank 0 of " + std::to_string(group.size()) +
                                          " from rank " + std::to_string(late) +
                                          " with tag 7 waited 1000 ms"
                                    : "barrier of rank " + std::to_string(group.rank()) + " of " +
                                          std::to_string(group.size()) + " waited 1000 ms";
      CHECK(message.find(start) == 0);
      if (is_message && group.rank() == 1) {
        CHECK(message.find("; rank 0 waits in receive from rank " + std::to_string(late) +
                           " with tag 7") != std::string::npos);
      }
      CHECK_THROWS_AS(group.barrier(), error);  // and ends at once
    }
    world().barrier();
  }
}

TEST_CASE("a message of another size is refused") {
  if (world().size() == 1) return;
  for (const int sent : {3, 5}) {
    mpi_communicator group;
    std::vector<int> x(static_cast<std::size_t>(sent)), y(4);
    if (group.rank() == 0) group.send(std::span(x), 1, 2);
    if (group.rank() == 1) CHECK_THROWS_AS(group.receive(std::span(y), 0, 2), error);
    world().barrier();
  }
}

TEST_CASE("a request destroyed before its end makes the group unusable, and says so") {
  if (world().size() == 1) return;
  mpi_communicator group;
  std::vector<int> x(4);
  if (group.rank() == 0) {
    { const auto dropped = group.start_receive(std::span(x), 1, 0); }
    const std::string message = "barrier of rank 0 of " + std::to_string(group.size()) +
                                ": the group is unusable since an earlier call failed";
    CHECK_THROWS_WITH_AS(group.barrier(), message.c_str(), error);
  }
  world().barrier();
}

}  // namespace mtp::test::distributed_mpi_cases
