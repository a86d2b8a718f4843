// Threads as the ranks that compute one model together, on the CPU.
#pragma once

#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/distributed/tensor_ranks.hpp"
#include "mtp/distributed/thread_ranks.hpp"
#include "support/ranks_of_backend.hpp"

namespace mtp::test {

template <>
struct joined_ranks<cpu> {
  static constexpr int thread_counts[] = {1, 3};

  template <class Body>
  static void with(thread_communicator& group,
                   int threads,
                   index_t workspace_bytes,
                   const Body& body) {
    tensor_ranks joined(group);
    cpu_context context({.threads = threads, .workspace_bytes = workspace_bytes});
    context.join(joined);
    body(context);
  }
};

/// Calls body(context, rank) on `ranks` threads, with a context that has joined them.
template <class Body>
void on_ranks(int ranks, const Body& body, int threads = 1, index_t workspace_bytes = 1 << 24) {
  on_ranks_of<cpu>(ranks, body, threads, workspace_bytes);
}

/// The results body(context, rank) of all ranks. Asserting is left to the caller's thread.
template <class Result, class Body>
std::vector<Result> from_ranks(int ranks, const Body& body, int threads = 1) {
  return from_ranks_of<Result, cpu>(ranks, body, threads);
}

}  // namespace mtp::test
