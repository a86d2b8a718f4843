// A run whose ranks add numbers for ever, until one of them fails:
//
//     mpi_faults throw|memory|kill|stop|late RANK STEP
//
// The rank throws, runs out of memory, is killed, is stopped, or computes for ever, at this step.
#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <list>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/distributed/mpi_session.hpp"
#include "mtp/distributed/ordered_sum.hpp"

/// From now on this process gets a few MiB more of address space, as with ulimit -v, and takes
/// them.
void use_up_memory() {
  long pages = 0;  // of address space
  std::ifstream("/proc/self/statm") >> pages;
  const rlim_t limit = static_cast<rlim_t>(pages) * 4096 + (rlim_t{32} << 20);
  const rlimit bound{limit, limit};
  setrlimit(RLIMIT_AS, &bound);
  std::list<std::vector<std::byte>> taken;
  for (;;) taken.emplace_back(std::size_t{1} << 20);
}

int main(int argc, char** argv) {
  return mtp::mpi_session::run(
      argc,
      argv,
      [&](mtp::mpi_communicator& group) {
        mtp::check(argc == 4, "usage: mpi_faults throw|memory|kill|stop|late RANK STEP");
        const std::string how = argv[1];
        const int rank = std::atoi(argv[2]), step = std::atoi(argv[3]);
        std::vector<float> x(1000, 1);
        for (int i = 0;; ++i) {
          if (group.rank() == rank && i == step) {
            if (how == "throw") mtp::fail("out of memory, says the test");
            if (how == "memory") use_up_memory();
            if (how == "kill") std::raise(SIGKILL);
            if (how == "stop") std::raise(SIGSTOP);
            if (how == "late") std::this_thread::sleep_for(std::chrono::minutes(5));
          }
          group.all_reduce(std::span(x), mtp::reduction::max);
          mtp::ordered_all_reduce(group, std::span(x));
          for (float& each : x) each = 1;
        }
      },
      {.time_limit = std::chrono::milliseconds(1000)});
}
