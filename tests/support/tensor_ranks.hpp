// Threads as the ranks that compute one model together.
#pragma once

#include <cstddef>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/distributed/tensor_ranks.hpp"
#include "mtp/distributed/thread_ranks.hpp"

namespace mtp::test {

/// Calls body(context, rank) on `ranks` threads, with a context that has joined them.
template <class Body>
void on_ranks(int ranks, const Body& body, int threads = 1, index_t workspace_bytes = 1 << 24) {
  run_ranks(ranks, [&](thread_communicator& group) {
    tensor_ranks joined(group);
    cpu_context context({.threads = threads, .workspace_bytes = workspace_bytes});
    context.join(joined);
    body(context, group.rank());
  });
}

/// The results body(context, rank) of all ranks. Asserting is left to the caller's thread.
template <class Result, class Body>
std::vector<Result> from_ranks(int ranks, const Body& body, int threads = 1) {
  std::vector<Result> results(static_cast<std::size_t>(ranks));
  on_ranks(
      ranks,
      [&](cpu_context& context, int rank) {
        results[static_cast<std::size_t>(rank)] = body(context, rank);
      },
      threads);
  return results;
}

}  // namespace mtp::test
