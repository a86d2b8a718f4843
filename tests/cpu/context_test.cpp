#include "mtp/backend/cpu/context.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <limits>
#include <vector>

#include "mtp/backend/cpu.hpp"

namespace mtp::test::cpu_context_cases {

TEST_CASE("context<cpu> is the context of the CPU") {
  static_assert(std::same_as<context<cpu>, cpu_context>);
  cpu_context one({.threads = 1, .workspace_bytes = 128});
  CHECK(one.threads() == 1);
  CHECK(one.workspace().capacity() == 128);
  CHECK(cpu_context().threads() >= 1);
}

TEST_CASE("impossible options are refused") {
  CHECK_THROWS_AS(cpu_context({.threads = -1, .workspace_bytes = 0}), error);
  CHECK_THROWS_AS(cpu_context({.threads = 1025, .workspace_bytes = 0}), error);
  CHECK_THROWS_AS(cpu_context({.threads = 1, .workspace_bytes = -1}), error);
}

TEST_CASE("reserve makes the workspace larger and never smaller") {
  cpu_context context({.threads = 1, .workspace_bytes = 0});
  CHECK_THROWS_AS(context.workspace().take<float>(1), error);
  context.reserve(1024);
  CHECK(context.workspace().capacity() == 1024);
  context.reserve(10);
  CHECK(context.workspace().capacity() == 1024);
  const arena::scope scope(context.workspace());
  context.workspace().take<float>(256);
  CHECK_THROWS_AS(context.reserve(2048), error);
}

TEST_CASE("parallel_ranges covers the range once, in pieces of at most the grain") {
  cpu_context context({.threads = 3, .workspace_bytes = 0});
  for (const index_t count : {0, 1, 10, 101}) {
    for (const index_t grain : {0, 1, 7, 1000}) {
      CAPTURE(count);
      CAPTURE(grain);
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
      std::atomic<int> too_long{0};
      context.parallel_ranges(count, grain, [&](index_t begin, index_t end, int) {
        too_long += end - begin > std::max<index_t>(grain, 1) || end <= begin;
        for (index_t i = begin; i < end; ++i) {
          ++visits[static_cast<std::size_t>(i)];
        }
      });
      int wrong = 0;
      for (const auto& visit : visits) {
        wrong += visit != 1;
      }
      CHECK(wrong == 0);
      CHECK(too_long == 0);
    }
  }
}

TEST_CASE("parallel_ranges covers the largest range") {
  cpu_context context({.threads = 1, .workspace_bytes = 0});
  constexpr index_t most = (std::numeric_limits<index_t>::max)();
  for (const index_t grain : {most, most - 1, most / 2, most / 3 + 1}) {
    CAPTURE(grain);
    index_t next = 0;
    int pieces = 0;
    context.parallel_ranges(most, grain, [&](index_t begin, index_t end, int) {
      CHECK(begin == next);
      CHECK(end > begin);
      CHECK(end - begin <= grain);
      next = end;
      ++pieces;
    });
    CHECK(next == most);
    CHECK(pieces == (grain == most ? 1 : grain > most / 2 ? 2 : 3));
  }
}

TEST_CASE("parallel hands out every task") {
  cpu_context context({.threads = 2, .workspace_bytes = 0});
  std::atomic<index_t> sum{0};
  context.parallel(100, [&](index_t task, int) { sum += task; });
  CHECK(sum == 4950);
}

TEST_CASE("apart gives each task one thread and a workspace of its own") {
  for (const int threads : {1, 3}) {
    cpu_context context({.threads = threads, .workspace_bytes = 1024});
    const arena::scope scope(context.workspace());
    context.workspace().take<std::byte>(128);
    for (const index_t count : {0, 1, 3, 7}) {
      CAPTURE(threads);
      CAPTURE(count);
      std::vector<std::byte*> piece(static_cast<std::size_t>(count));
      std::atomic<int> wrong{0};
      context.apart(count, 100, [&](index_t task, cpu_context& alone) {
        wrong += alone.threads() != 1 || alone.workspace().capacity() != 128 ||
                 alone.workspace().used() != 0 || alone.ranks() != nullptr;
        piece[static_cast<std::size_t>(task)] = alone.workspace().take<std::byte>(128);
        alone.parallel(5, [&](index_t, int thread) { wrong += thread != 0; });
      });
      CHECK(wrong == 0);
      for (std::size_t i = 0; i < piece.size(); ++i) {
        CHECK(piece[i] == context.workspace().memory() + 128 * (i + 1));
      }
      CHECK(context.workspace().used() == 128);
    }
    bool called = false;
    CHECK_THROWS_AS(context.apart(8, 100, [&](index_t, cpu_context&) { called = true; }), error);
    CHECK(!called);
    CHECK(context.workspace().used() == 128);
  }
}

TEST_CASE("a context of a task may take more memory, and leaves that of the others") {
  cpu_context context({.threads = 2, .workspace_bytes = 128});
  context.apart(2, 64, [&](index_t, cpu_context& alone) {
    alone.reserve(4096);
    alone.workspace().take<std::byte>(4096)[4095] = std::byte{1};
  });
  CHECK(context.workspace().capacity() == 128);
}

TEST_CASE("apart throws what the lowest task threw, when all have ended") {
  cpu_context context({.threads = 3, .workspace_bytes = 1024});
  std::atomic<int> ended{0};
  const auto run = [&] {
    context.apart(7, 64, [&](index_t task, cpu_context&) {
      ++ended;
      check(task < 2, "task ", task);
    });
  };
  CHECK_THROWS_WITH_AS(run(), "task 2", error);
  CHECK(ended == 7);
  CHECK(context.workspace().used() == 0);
}

TEST_CASE("shared_runs counts what several threads had a part in") {
  cpu_context context({.threads = 2, .workspace_bytes = 128});
  const auto before = context.shared_runs();
  context.parallel(1, [](index_t, int) {});  // one task: nothing to share
  CHECK(context.shared_runs() == before);
  context.parallel(2, [](index_t, int) {});
  context.apart(2, 64, [](index_t, cpu_context&) {});
  CHECK(context.shared_runs() == before + 2);
}

}  // namespace mtp::test::cpu_context_cases
