// A run whose ranks add numbers for ever, until one of them fails:
//
//     mpi_faults throw|kill|stop|late RANK STEP
//
// The rank throws, is killed, is stopped, or computes for ever, at this step.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/distributed/mpi_session.hpp"
#include "mtp/distributed/ordered_sum.hpp"

int main(int argc, char** argv) {
  return mtp::mpi_session::run(argc,
                               argv,
                               [&](mtp::mpi_communicator& group) {
                                 mtp::check(argc == 4,
                                            "usage: mpi_faults throw|kill|stop|late RANK STEP");
                                 const std::string how = argv[1];
                                 const int rank = std::atoi(argv[2]), step = std::atoi(argv[3]);
                                 std::vector<float> x(1000, 1);
                                 for (int i = 0;; ++i) {
                                   if (group.rank() == rank && i == step) {
                                     if (how == "throw") mtp::fail("out of memory, says the test");
                                     if (how == "kill") std::raise(SIGKILL);
                                     if (how == "stop") std::raise(SIGSTOP);
                                     if (how == "late")
                                       std::this_thread::sleep_for(std::chrono::minutes(5));
                                   }
                                   group.all_reduce(std::span(x), mtp::reduction::max);
                                   mtp::ordered_all_reduce(group, std::span(x));
                                   for (float& each : x) each = 1;
                                 }
                               },
                               {.time_limit = std::chrono::milliseconds(1000)});
}
