// Threads as the ranks that compute one model together, with contexts of any backend.
#pragma once

#include <cstddef>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/distributed/thread_ranks.hpp"

namespace mtp::test {

/// Specialized for each backend whose contexts join ranks:
///   thread_counts                                 numbers of threads that change no bit
///   with(group, threads, workspace_bytes, body)   body(context), which has joined the ranks
template <class Backend>
struct joined_ranks;

/// Calls body(context, rank) on `ranks` threads, with a context that has joined them.
template <class Backend, class Body>
void on_ranks_of(int ranks, const Body& body, int threads = 1, index_t workspace_bytes = 1 << 24) {
  run_ranks(ranks, [&](thread_communicator& group) {
    joined_ranks<Backend>::with(
        group, threads, workspace_bytes, [&](auto& context) { body(context, group.rank()); });
  });
}

/// The results body(context, rank) of all ranks. Asserting is left to the caller's thread.
template <class Result, class Backend, class Body>
std::vector<Result> from_ranks_of(int ranks, const Body& body, int threads = 1) {
  std::vector<Result> results(static_cast<std::size_t>(ranks));
  on_ranks_of<Backend>(
      ranks,
      [&](auto& context, int rank) {
        results[static_cast<std::size_t>(rank)] = body(context, rank);
      },
      threads);
  return results;
}

}  // namespace mtp::test
