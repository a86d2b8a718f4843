// The order of work in a pipeline.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "mtp/distributed/pipeline_schedule.hpp"

namespace mtp::test::distributed_pipeline_schedule_cases {

namespace {

using work_list = std::vector<std::pair<pipeline_work, index_t>>;

work_list work_of(const pipeline_schedule& schedule, int rank) {
  work_list list;
  schedule.for_each(rank, [&](pipeline_work work, index_t k) { list.emplace_back(work, k); });
  return list;
}

std::string text_of(const pipeline_schedule& schedule, int rank) {
  std::string text;
  for (const auto& [work, k] : work_of(schedule, rank)) {
    text += "FHB"[static_cast<std::size_t>(work)] + std::to_string(k) + " ";
  }
  return text;
}

/// Runs all ranks as far as each can go. What a rank does needs what the station before or behind
/// has done for the pass. Returns how often ranks looked in vain before all was done; -1: never.
int rounds_of(const pipeline_schedule& schedule) {
  const int S = schedule.stations();
  std::vector<work_list> lists;
  for (int rank = 0; rank < schedule.ranks; ++rank) lists.push_back(work_of(schedule, rank));
  std::vector<std::size_t> done(lists.size());
  std::vector<index_t> forward(static_cast<std::size_t>(S)), backward(forward);
  for (int rounds = 0; rounds < 1000; ++rounds) {
    bool moved = false, all = true;
    for (std::size_t rank = 0; rank < lists.size(); ++rank) {
      all = all && done[rank] == lists[rank].size();
      if (done[rank] == lists[rank].size()) continue;
      const auto [work, k] = lists[rank][done[rank]];
      const std::size_t s = work == pipeline_work::head ? forward.size() - 1 : rank;
      const bool given =
          work == pipeline_work::backward ? backward[s + 1] > k : s == 0 || forward[s - 1] > k;
      if (!given) continue;
      index_t& count = work == pipeline_work::backward ? backward[s] : forward[s];
      CHECK(count == k);  // in the order of passes
      ++count;
      if (work == pipeline_work::head) backward[s] = count;
      ++done[rank];
      moved = true;
    }
    if (all) return rounds;
    if (!moved) return -1;
  }
  return -1;
}

}  // namespace

TEST_CASE("one forward and one backward pass in turn, after a start") {
  const pipeline_schedule last{3, 4, head_placement::last_stage};
  CHECK(text_of(last, 0) == "F0 F1 F2 B0 F3 B1 B2 B3 ");
  CHECK(text_of(last, 1) == "F0 F1 B0 F2 B1 F3 B2 B3 ");
  CHECK(text_of(last, 2) == "H0 H1 H2 H3 ");
  const pipeline_schedule first{3, 4, head_placement::first_stage};
  CHECK(text_of(first, 0) == "F0 F1 F2 H0 H1 F3 B0 H2 B1 H3 B2 B3 ");
  CHECK(text_of(first, 2) == "F0 F1 B0 F2 B1 F3 B2 B3 ");
  const pipeline_schedule alone{1, 2, head_placement::first_stage};
  CHECK(text_of(alone, 0) == "H0 H1 ");
}

TEST_CASE("every rank comes to its end, and holds no more than it has room for") {
  for (const auto placement :
       {head_placement::last_stage, head_placement::own_stage, head_placement::first_stage}) {
    for (int ranks = 1; ranks <= 9; ++ranks) {
      for (index_t passes = 1; passes <= 12; ++passes) {
        CAPTURE(static_cast<int>(placement));
        CAPTURE(ranks);
        CAPTURE(passes);
        const pipeline_schedule schedule{ranks, passes, placement};
        CHECK(rounds_of(schedule) >= 0);
        for (int rank = 0; rank < ranks; ++rank) {
          index_t under_way = 0, most = 0, waiting = 0, most_waiting = 0;
          for (const auto& [work, k] : work_of(schedule, rank)) {
            under_way += work == pipeline_work::forward    ? 1
                         : work == pipeline_work::backward ? -1
                                                           : 0;
            waiting += work == pipeline_work::head ? 1 : work == pipeline_work::backward ? -1 : 0;
            most = (std::max)(most, under_way);
            most_waiting = (std::max)(most_waiting, waiting);
          }
          CHECK(under_way == 0);
          CHECK(most == schedule.in_flight(rank));
          if (schedule.both_ends_on_first() && rank == 0) {
            CHECK(most_waiting == schedule.waiting_gradients());
          }
        }
      }
    }
  }
}

TEST_CASE("without waiting, a pipeline takes as many rounds as the formula of its bubble says") {
  // Forward and backward passes take a round each here, and the last station does both in one.
  for (int ranks = 2; ranks <= 5; ++ranks) {
    const index_t passes = 10;
    const pipeline_schedule schedule{ranks, passes, head_placement::last_stage};
    CHECK(rounds_of(schedule) <= static_cast<int>(2 * (passes + ranks - 1)));
  }
}

TEST_CASE("every pass has one copy, in rounds of which the last may be short") {
  for (int count = 1; count <= 4; ++count) {
    for (index_t passes = count; passes <= 9; ++passes) {
      const pipeline_copies copies{count, passes};
      index_t next = 0, of_copies = 0;
      for (index_t round = 0; round < copies.rounds(); ++round) {
        for (int copy = 0; copy < count; ++copy) {
          CHECK(copies.computes(copy, round) == (copy < copies.senders(round)));
          if (copies.computes(copy, round)) CHECK(copies.pass(copy, round) == next++);
        }
      }
      for (int copy = 0; copy < count; ++copy) of_copies += copies.passes_of(copy);
      CHECK(next == passes);
      CHECK(of_copies == passes);
      CHECK(copies.passes_of(0) == copies.rounds());
    }
  }
}

}  // namespace mtp::test::distributed_pipeline_schedule_cases
