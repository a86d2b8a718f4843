// The communicator of NCCL, with threads as GPUs and a stub of NCCL that records its calls.
#include <cuda_runtime.h>
// The emulation comes first.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "mtp/distributed/nccl.cuh"
#include "mtp/distributed/thread_ranks.hpp"
#include "support/communicator_kit.hpp"

namespace mtp::test::distributed_nccl_cases {

using namespace std::chrono_literals;

/// Calls function(group) for each of `ranks` GPUs.
template <class Function>
void run_gpus(int ranks, const Function& function, communicator_options options = {}) {
  run_ranks(ranks, [&](thread_communicator& hosts) {
    cuda_context context;
    nccl_communicator group(context, hosts, options);
    function(group);
  });
}

bool was_called(const std::string& call) {
  const std::vector<std::string> calls = nccl_stub::calls();
  return std::find(calls.begin(), calls.end(), call) != calls.end();
}

template <class Function>
std::string message_of(const Function& function) {
  try {
    function();
  } catch (const error& problem) {
    return problem.what();
  }
  return "nothing was thrown";
}

TEST_CASE("GPUs do what every engine does, with 1 to 4 of them") {
  for (int ranks = 1; ranks <= 4; ++ranks) {
    CAPTURE(ranks);
    nccl_stub::reset();
    CHECK_NOTHROW(run_gpus(ranks, [](nccl_communicator& group) {
      communicator_kit::all_collectives(group, {0, 1, 3, 64, 131});
      for (const index_t count : {0, 1, 17}) communicator_kit::messages(group, count);
      communicator_kit::ring(group);
      communicator_kit::split(group);
    }));
    CHECK(nccl_stub::all().aborted == 0);
    CHECK(nccl_stub::all().destroyed > 0);
  }
}

TEST_CASE("equal ranges take NCCL's own calls, others a group of calls") {
  nccl_stub::reset();
  run_gpus(2, [](nccl_communicator& group) {
    std::vector<float> x(8);
    group.all_gather(std::span(x), shards(8, 2));
    group.reduce_scatter(std::span(x), shards(8, 2));
    group.all_reduce(std::span(x), reduction::min);
    group.barrier();
  });
  CHECK(nccl_stub::calls() ==
        std::vector<std::string>{
            "AllGather 0 16", "ReduceScatter 7 4", "AllReduce 7 8 by 3", "AllReduce 2 1 by 2"});
  nccl_stub::reset();
  run_gpus(2, [](nccl_communicator& group) {
    std::vector<double> x(7);
    group.all_gather(std::span(x), shards(7, 2));
    group.reduce_scatter(std::span(x), shards(7, 2, 7));
    group.broadcast(std::span(x), 1);
  });
  CHECK(nccl_stub::calls() == std::vector<std::string>{"Broadcast 0 32 from 0",
                                                       "Broadcast 0 24 from 1",
                                                       "Reduce 8 7 to 0",
                                                       "Reduce 8 0 to 1",
                                                       "Broadcast 0 56 from 1"});
}

TEST_CASE("messages are submitted together, in the order of tags, before the next other call") {
  nccl_stub::reset();
  run_gpus(2, [](nccl_communicator& group) {
    const int other = 1 - group.rank();
    std::vector<char> a(1), b(2), c(3);
    auto first = group.start_send(std::span(a), other, 9);
    auto second = group.start_receive(std::span(b), other, group.rank() == 0 ? 4 : 3);
    auto third = group.start_send(std::span(b), other, group.rank() == 0 ? 3 : 4);
    auto fourth = group.start_receive(std::span(a), other, 9);
    if (group.rank() == 0)
      check(nccl_stub::calls().empty(), "a message was submitted at its start");
    group.all_reduce(std::span(c), reduction::sum);
    check(first.done() && second.done() && third.done() && fourth.done(), "a message has no end");
  });
  CHECK(nccl_stub::calls() ==
        std::vector<std::string>{
            "Send 2 to 1", "Recv 2 from 1", "Send 1 to 1", "Recv 1 from 1", "AllReduce 0 3 by 0"});
}

TEST_CASE("a message that is given up before it was submitted is forgotten") {
  nccl_stub::reset();
  run_gpus(2, [](nccl_communicator& group) {
    std::vector<char> a(1);
    { const auto dropped = group.start_send(std::span(a), 1 - group.rank(), 9); }
    group.barrier();
  });
  CHECK(nccl_stub::calls() == std::vector<std::string>{"AllReduce 2 1 by 2"});
}

TEST_CASE("a rank that never joins ends in an error of the others, within the time limit") {
  nccl_stub::reset();
  const std::string message = message_of([] {
    run_ranks(2, [](thread_communicator& hosts) {
      cuda_context context;
      if (hosts.rank() == 1) {
        ncclUniqueId id{};
        hosts.broadcast(std::span(&id, 1), 0);
        return;
      }
      nccl_communicator group(context, hosts, {.time_limit = 100ms});
    });
  });
  CHECK(message == "nccl_communicator of rank 0 of 2 waited 100 ms for the other ranks");
  CHECK(nccl_stub::all().aborted == 1);
}

TEST_CASE("what NCCL reports is thrown, and the group is unusable after it") {
  nccl_stub::reset();
  CHECK(message_of([] {
          run_gpus(1, [](nccl_communicator& group) {
            std::vector<float> x(2);
            nccl_stub::all().failing["AllReduce"] = ncclSystemError;
            const std::string first =
                message_of([&] { group.all_reduce(std::span(x), reduction::sum); });
            check(first ==
                      "all_reduce: NCCL reports unhandled system error: AllReduce was told to fail",
                  first);
            group.barrier();
          });
        }) == "barrier of rank 0 of 1: the group is unusable since an earlier call failed");
  CHECK(nccl_stub::all().aborted == 1);

  nccl_stub::reset();
  CHECK(message_of([] {
          run_gpus(1, [](nccl_communicator& group) {
            std::vector<float> x(2);
            nccl_stub::all().asynchronous = ncclRemoteError;
            group.all_reduce(std::span(x), reduction::sum);
          });
        }).find("all_reduce: NCCL reports remote process exited or there was a network error") ==
        0);
  CHECK(nccl_stub::all().aborted == 1);

  nccl_stub::reset();
  nccl_stub::all().failing["GetUniqueId"] = ncclSystemError;
  CHECK(message_of([] { run_gpus(1, [](nccl_communicator&) {}); }).find("ncclGetUniqueId: ") == 0);
  nccl_stub::reset();
}

TEST_CASE("a shared file brings the group together, and is removed") {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() /
      ("mtp_nccl_" + std::to_string(std::chrono::steady_clock::now().time_since_epoch().count()));
  run_ranks(3, [&](thread_communicator& hosts) {
    cuda_context context;
    if (hosts.rank() == 0) std::this_thread::sleep_for(50ms);  // the others wait for the file
    nccl_communicator group(context, file, hosts.rank(), hosts.size());
    check(group.rank() == hosts.rank() && group.size() == 3, "another rank");
    communicator_kit::collectives<float>(group, 10);
  });
  CHECK(!std::filesystem::exists(file));

  cuda_context context;
  CHECK(message_of([&] {
          const nccl_communicator group(context, file, 1, 2, {.time_limit = 50ms});
        }) == "nccl_communicator of rank 1 of 2 waited 50 ms for rank 0 to write " + file.string());
  CHECK(message_of([&] {
          const nccl_communicator group(context, file / "there" / "is" / "none", 0, 1);
        }).find(" cannot be written") != std::string::npos);
  CHECK(message_of([&] {
          const nccl_communicator group(context, std::filesystem::temp_directory_path(), 0, 1);
        }).find("is there already; name another file for each run") != std::string::npos);
  CHECK_THROWS_AS(nccl_communicator(context, file, 2, 2), error);
}

TEST_CASE("arguments that no engine takes are refused, and the group goes on") {
  run_gpus(2, [](nccl_communicator& group) {
    std::vector<float> x(4);
    const auto refuses = [&](const auto& call) {
      check(message_of(call) != "nothing was thrown", "nothing was thrown");
    };
    refuses([&] { group.broadcast(std::span(x), 2); });
    refuses([&] { group.send(std::span(x), -1, 0); });
    refuses([&] { group.receive(std::span(x), 0, 32767); });
    refuses([&] { group.all_gather(std::span(x), shards(4, 3)); });
    refuses([&] { group.reduce_scatter(std::span(x), shards(5, 2)); });
    refuses([&] { group.split(-1, 0); });
    group.barrier();
  });
}

}  // namespace mtp::test::distributed_nccl_cases
