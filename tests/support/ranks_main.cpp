// The main function of tests that run as several processes of MPI.
#include <chrono>
#include <cstdio>
#include <memory>

#include "mtp/distributed/mpi_session.hpp"
#include "support/ranks.hpp"
#include "support/run_tests.hpp"

namespace mtp::test {

namespace {
mpi_communicator* of_all = nullptr;
}

mpi_communicator& world() {
  return *of_all;
}

}  // namespace mtp::test

int main(int argc, char** argv) {
  const auto run = [&](mtp::mpi_communicator& all) {
    mtp::test::of_all = &all;
    return mtp::test::run_tests(argc, argv);
  };
  return mtp::mpi_session::run(argc, argv, run, {.time_limit = std::chrono::seconds(30)});
}
