// What ranks that train together tell each other, whatever carries it.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <thread>

#include "mtp/distributed/communicator.hpp"

namespace example {

/// Whether this rank or another one wants something.
template <mtp::communicator Group>
bool any_of(Group& group, bool wants) {
  std::int32_t answer = wants ? 1 : 0;
  if (group.size() > 1) group.all_reduce(std::span(&answer, 1), mtp::reduction::max);
  return answer != 0;
}

/// Runs work(), which returns an exit status, on rank 0, while the others wait for as long as it
/// takes. All ranks return its status.
template <mtp::communicator Group, class Work>
int on_first_rank(Group& group, const Work& work) {
  constexpr int tag = 1;
  int status = 0;
  if (group.rank() == 0) {
    status = work();
    for (int other = 1; other < group.size(); ++other) {
      group.send(std::span<const int>(&status, 1), other, tag);
    }
    return status;
  }
  auto answer = group.start_receive(std::span<int>(&status, 1), 0, tag);
  while (!answer.done()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return status;
}

}  // namespace example
