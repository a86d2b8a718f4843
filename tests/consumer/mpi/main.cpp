// Every rank brings its number; all get the sum.
#include <cstdio>
#include <span>

#include "mtp/distributed/mpi_session.hpp"

int main(int argc, char** argv) {
  return mtp::mpi_session::run(argc, argv, [](mtp::mpi_communicator& group) {
    float sum[] = {static_cast<float>(group.rank())};
    group.all_reduce(std::span(sum), mtp::reduction::sum);
    if (group.rank() == 0) std::printf("%d ranks, sum %g\n", group.size(), sum[0]);
  });
}
