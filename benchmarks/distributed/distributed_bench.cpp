// What a sum over ranks costs: in the order of ranks, and in MPI's own order. Times are those of
// the slowest rank, in turns, with the median, the least and the most of nine.
//
//     scripts/ranks 4 build/release/benchmarks/distributed_bench [ELEMENTS]
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "mtp/distributed/mpi_session.hpp"
#include "mtp/distributed/ordered_sum.hpp"

namespace {

constexpr std::size_t turns = 9;

struct timed {
  const char* name;
  std::array<double, turns> milliseconds{};
};

template <class Function>
void time(mtp::mpi_communicator& group, timed& result, std::size_t turn, const Function& function) {
  group.barrier();
  const auto start = std::chrono::steady_clock::now();
  function();
  group.barrier();
  const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - start;
  result.milliseconds[turn] = taken.count();
}

}  // namespace

int main(int argc, char** argv) {
  return mtp::mpi_session::run(argc, argv, [&](mtp::mpi_communicator& group) {
    const mtp::index_t count = argc > 1 ? std::stol(argv[1]) : 10'000'000;
    const mtp::shards parts(count, group.size(), 64);
    std::vector<float> values(static_cast<std::size_t>(count), 1);
    std::vector<float> sums(static_cast<std::size_t>(parts.size(group.rank())));
    timed ordered{"ordered_reduce_scatter"}, own{"reduce_scatter of MPI"}, gather{"all_gather"};
    for (std::size_t turn = 0; turn < turns; ++turn) {
      time(group, ordered, turn, [&] {
        mtp::ordered_reduce_scatter(group, std::span<const float>(values), parts, std::span(sums));
      });
      time(group, own, turn, [&] { group.reduce_scatter(std::span(values), parts); });
      time(group, gather, turn, [&] { group.all_gather(std::span(values), parts); });
    }
    if (group.rank() != 0) return;
    std::printf("%d ranks, %td floats\n", group.size(), count);
    for (timed* each : {&ordered, &own, &gather}) {
      std::sort(each->milliseconds.begin(), each->milliseconds.end());
      std::printf("%-24s %8.1f ms (%.1f to %.1f)\n",
                  each->name,
                  each->milliseconds[turns / 2],
                  each->milliseconds.front(),
                  each->milliseconds.back());
    }
  });
}
