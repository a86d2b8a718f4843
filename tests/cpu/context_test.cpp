#include "mtp/backend/cpu/context.hpp"

#include <doctest/doctest.h>

#include <atomic>
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

}  // namespace mtp::test::cpu_context_cases
