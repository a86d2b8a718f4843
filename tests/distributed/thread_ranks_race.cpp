#include <doctest/doctest.h>

#include <chrono>
#include <span>
#include <stdexcept>
#include <thread>
#include <vector>

#include "emulation/sanitizers.hpp"
#include "mtp/distributed/agreement.hpp"
#include "mtp/distributed/ordered_sum.hpp"
#include "mtp/distributed/thread_ranks.hpp"
#include "support/communicator_kit.hpp"

namespace mtp::test::distributed_thread_ranks_race_cases {

template <class Function>
long races_of(int ranks, const Function& function, communicator_options options = {}) {
  const long before = emulation::race_count();
  try {
    run_ranks(ranks, function, options);
  } catch (const std::exception&) {
  }
  return emulation::race_count() - before;
}

TEST_CASE("no engine of threads races, whatever the ranks do") {
  for (int ranks = 1; ranks <= 4; ++ranks) {
    CAPTURE(ranks);
    CHECK(races_of(ranks, [](thread_communicator& group) {
            communicator_kit::collectives<float>(group, 131);
            communicator_kit::collectives<std::int8_t>(group, 3);
            communicator_kit::messages(group, 17);
            communicator_kit::ring(group);
            communicator_kit::split(group);
            agree(group, {{"seed", "1"}});
            std::vector<float> x = communicator_kit::values_of<float>(group.rank(), 1000);
            ordered_all_reduce(group, std::span(x));
          }) == 0);
  }
}

TEST_CASE("a rank that fails frees no memory that others read") {
  for (int round = 0; round < 20; ++round) {
    CHECK(races_of(3, [&](thread_communicator& group) {
            thread_communicator pair = group.split(group.rank() == 2 ? 1 : 0, 0);
            if (group.rank() == 2) {
              std::this_thread::sleep_for(std::chrono::microseconds(50 * round));
              throw std::runtime_error("fails while the others compute");
            }
            for (;;) {
              std::vector<float> x(20000, 1);
              pair.all_reduce(std::span(x), reduction::sum);
              auto receive = pair.start_receive(std::span(x), 1 - pair.rank(), 0);
              std::vector<float> y(20000, 1);
              pair.send(std::span(y), 1 - pair.rank(), 0);
              receive.wait();
              std::vector<float> z(1);
              if (round % 2 == 0 && group.rank() == 0) group.receive(std::span(z), 2, 0);
            }
          }) == 0);
  }
}

TEST_CASE("values that are touched while they travel are a race") {
  // ThreadSanitizer does not report a race whose first half it has forgotten: some rounds show
  // none.
  long races = 0;
  for (int round = 0; round < 50 && races == 0; ++round) {
    races = races_of(2, [](thread_communicator& group) {
      std::vector<float> x(1000);
      if (group.rank() == 0) {
        auto receive = group.start_receive(std::span(x), 1, 0);
        group.barrier();  // so that the send copies, beside the loop
        for (int i = 0; i < 100; ++i) {
          x[0] += 1;
          std::this_thread::sleep_for(std::chrono::microseconds(10));
        }
        receive.wait();
      } else {
        group.barrier();
        group.send(std::span(x), 0, 0);
      }
    });
  }
  CHECK(races > 0);
}

}  // namespace mtp::test::distributed_thread_ranks_race_cases
