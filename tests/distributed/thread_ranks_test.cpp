#include "mtp/distributed/thread_ranks.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/communicator_kit.hpp"

namespace mtp::test::distributed_thread_ranks_cases {

using namespace std::chrono_literals;

TEST_CASE("threads as ranks do what every engine does, with 1 to 5 ranks") {
  for (int ranks = 1; ranks <= 5; ++ranks) {
    CAPTURE(ranks);
    CHECK_NOTHROW(run_ranks(ranks, [](thread_communicator& group) {
      communicator_kit::all_collectives(group, {0, 1, 3, 64, 131, 1000});
      for (const index_t count : {0, 1, 17, 1000}) communicator_kit::messages(group, count);
      communicator_kit::ring(group);
      communicator_kit::split(group);
    }));
  }
}

TEST_CASE("threads as ranks add in the order of ranks") {
  std::vector<float> sums(4);
  run_ranks(4, [&](thread_communicator& group) {
    // ((1 + 2^24) - 2^24) + 1 is 1 in f32: another order gives 2.
    const float own[] = {1, 16777216, -16777216, 1};
    std::vector<float> x{own[group.rank()]};
    group.all_reduce(std::span(x), reduction::sum);
    sums[static_cast<std::size_t>(group.rank())] = x[0];
    std::vector<float> y{own[group.rank()]};
    group.reduce_scatter(std::span(y), shards(1, 4));
    if (group.rank() == 0) check(y[0] == 1, "reduce_scatter: ", y[0]);
  });
  CHECK(sums == std::vector<float>(4, 1));
}

/// What run_ranks throws, and how long it takes.
template <class Function>
std::string message_of(int ranks, const Function& function, std::chrono::milliseconds limit = 10s) {
  const auto start = std::chrono::steady_clock::now();
  std::string message = "nothing was thrown";
  try {
    run_ranks(ranks, function, {.time_limit = limit});
  } catch (const std::exception& problem) {
    message = problem.what();
  }
  CHECK(std::chrono::steady_clock::now() - start < 8s);
  return message;
}

TEST_CASE("a rank that throws ends the waits of the others, which name it") {
  for (const int kind : {0, 1, 2}) {
    CAPTURE(kind);
    std::vector<std::string> of_others(3);
    CHECK_THROWS_WITH_AS(run_ranks(3,
                                   [&](thread_communicator& group) {
                                     const auto own = static_cast<std::size_t>(group.rank());
                                     if (group.rank() == 1) {
                                       std::this_thread::sleep_for(20ms);
                                       throw std::domain_error("out of memory");
                                     }
                                     std::vector<float> x(4);
                                     try {
                                       if (kind == 0) group.barrier();
                                       if (kind == 1) group.receive(std::span(x), 1, 0);
                                       if (kind == 2) {  // waits for one that waits for it
                                         if (own == 0) group.receive(std::span(x), 2, 0);
                                         if (own == 2)
                                           group.all_reduce(std::span(x), reduction::sum);
                                       }
                                     } catch (const error& problem) {
                                       of_others[own] = problem.what();
                                       throw;
                                     }
                                   }),
                         "out of memory",
                         std::domain_error);
    CHECK(of_others[0].find("of rank 0 of 3: rank 1 has failed: out of memory") !=
          std::string::npos);
    CHECK(of_others[2].find("of rank 2 of 3: rank 1 has failed: out of memory") !=
          std::string::npos);
  }
  CHECK_THROWS_AS(run_ranks(2,
                            [](thread_communicator& group) {
                              if (group.rank() == 1) throw 3;
                              group.barrier();
                            }),
                  int);
}

TEST_CASE("a rank that never comes is named after the time limit, with what the others do") {
  const std::string in_barrier = message_of(
      3,
      [](thread_communicator& group) {
        if (group.rank() == 2) std::this_thread::sleep_for(400ms);
        if (group.rank() != 2) group.barrier();
      },
      100ms);
  CHECK(in_barrier.find("barrier of rank ") == 0);
  CHECK(in_barrier.find(" of 3 waited 100 ms for rank 2 (in no call)") != std::string::npos);

  const std::string in_receive = message_of(
      2,
      [](thread_communicator& group) {
        std::vector<int> x(1);
        if (group.rank() == 1) std::this_thread::sleep_for(400ms);
        if (group.rank() == 0) group.receive(std::span(x), 1, 7);
      },
      100ms);
  CHECK(in_receive == "receive of rank 0 of 2 with tag 7 waited 100 ms for rank 1 (in no call)");
}

TEST_CASE("messages of a part of the group name ranks of the whole") {
  CHECK(message_of(
            3,
            [](thread_communicator& group) {
              thread_communicator part = group.split(group.rank() == 0 ? 0 : 1, -group.rank());
              std::vector<int> x(1);
              if (group.rank() == 1) std::this_thread::sleep_for(400ms);
              if (group.rank() == 2) part.receive(std::span(x), 1, 7);
            },
            100ms) == "receive of rank 2 of 3 with tag 7 waited 100 ms for rank 1 (in no call)");
}

TEST_CASE("a rank that has returned is not waited for") {
  CHECK(message_of(2, [](thread_communicator& group) {
          if (group.rank() == 0) group.barrier();
        }) == "barrier of rank 0 of 2 waits in vain for rank 1 (has returned)");
  CHECK(message_of(2, [](thread_communicator& group) {
          std::vector<int> x(1);
          if (group.rank() == 1) group.send(std::span(x), 0, 4);
        }) == "send of rank 1 of 2 with tag 4 waits in vain for rank 0 (has returned)");
}

TEST_CASE("calls that differ among ranks are refused on all of them") {
  const std::string operations = message_of(2, [](thread_communicator& group) {
    std::vector<int> x(2);
    if (group.rank() == 0) group.barrier();
    if (group.rank() == 1) group.broadcast(std::span(x), 0);
  });
  CHECK(operations.find("ranks called different things: rank 0 barrier of 0 bytes with 0, "
                        "rank 1 broadcast of 8 bytes with 0") != std::string::npos);
  const std::string sizes = message_of(2, [](thread_communicator& group) {
    std::vector<int> x(group.rank() == 0 ? 2 : 3);
    group.all_reduce(std::span(x), reduction::max);
  });
  CHECK(sizes.find("rank 0 all_reduce of 8 bytes with 2, rank 1 all_reduce of 12 bytes with 2") !=
        std::string::npos);
  const std::string roots = message_of(2, [](thread_communicator& group) {
    std::vector<int> x(2);
    group.broadcast(std::span(x), group.rank());
  });
  CHECK(roots.find("rank 1 broadcast of 8 bytes with 1") != std::string::npos);
  const std::string messages = message_of(2, [](thread_communicator& group) {
    std::vector<int> x(group.rank() == 0 ? 2 : 3);
    if (group.rank() == 0) group.send(std::span(x), 1, 6);
    if (group.rank() == 1) group.receive(std::span(x), 0, 6);
  });
  CHECK(messages.find("with tag 6: ") != std::string::npos);
  CHECK(messages.find("bytes were expected, but those of rank ") != std::string::npos);
}

TEST_CASE("arguments that no engine takes are refused") {
  run_ranks(2, [](thread_communicator& group) {
    std::vector<float> x(4);
    const auto refuses = [&](const auto& call) {
      try {
        call();
      } catch (const error&) {
        return;
      }
      fail("nothing was thrown");
    };
    refuses([&] { group.broadcast(std::span(x), 2); });
    refuses([&] { group.send(std::span(x), -1, 0); });
    refuses([&] { group.receive(std::span(x), 2, 0); });
    refuses([&] { group.send(std::span(x), 0, -1); });
    refuses([&] { group.send(std::span(x), 0, 32767); });
    refuses([&] { group.all_gather(std::span(x), shards(4, 3)); });
    refuses([&] { group.reduce_scatter(std::span(x), shards(5, 2)); });
    refuses([&] { group.split(-1, 0); });
    group.barrier();  // and the group goes on
  });
  CHECK_THROWS_WITH_AS(run_ranks(0, [](thread_communicator&) {}),
                       "run_ranks: at least 1 rank was expected, but 0 came",
                       error);
}

TEST_CASE("a request destroyed before its end is taken back, and the next message goes through") {
  run_ranks(2, [](thread_communicator& group) {
    std::vector<int> lost{1}, kept{2}, got{0};
    if (group.rank() == 0) {
      { const auto dropped = group.start_send(std::span(lost), 1, 0); }
      group.barrier();
      group.send(std::span(kept), 1, 0);
      auto first = group.start_send(std::span(lost), 1, 1);
      first = group.start_send(std::span(kept), 1, 1);
      group.barrier();
      first.wait();
    } else {
      group.barrier();
      group.receive(std::span(got), 0, 0);
      check(got[0] == 2, "the message taken back came: ", got[0]);
      group.barrier();
      group.receive(std::span(got), 0, 1);
      check(got[0] == 2, "the message replaced came: ", got[0]);
    }
  });
}

}  // namespace mtp::test::distributed_thread_ranks_cases
