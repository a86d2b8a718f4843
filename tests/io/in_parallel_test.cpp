// Work that threads share: every call is made once, and a failure ends it in order.
#include "mtp/io/in_parallel.hpp"

#include <doctest/doctest.h>

#include <cfenv>
#include <vector>

#include "mtp/core/error.hpp"

namespace mtp::test::io_in_parallel_cases {

TEST_CASE("every number is called once, and none for none") {
  for (const index_t count : {0, 1, 2, 7, 5000}) {
    std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
    io::in_parallel(count, [&](index_t i) { ++calls[static_cast<std::size_t>(i)]; });
    for (const auto& each : calls) CHECK(each == 1);
  }
}

TEST_CASE("a failure is thrown again once all calls have ended, and no other begins") {
  constexpr index_t count = 100000;
  std::atomic<index_t> begun{0}, ended{0};
  const auto run = [&] {
    io::in_parallel(count, [&](index_t i) {
      ++begun;
      const bool fails = i == 3;
      if (!fails) std::this_thread::yield();
      ++ended;
      check(!fails, "number ", i);
    });
  };
  CHECK_THROWS_WITH_AS(run(), "number 3", error);
  CHECK(begun == ended);
  CHECK(begun < count);
}

TEST_CASE("threads compute in the default floating-point environment, and the caller's stays") {
  std::fesetround(FE_UPWARD);
  std::atomic<int> others{0};
  io::in_parallel(1000, [&](index_t) { others += std::fegetround() != FE_TONEAREST ? 1 : 0; });
  CHECK(std::fegetround() == FE_UPWARD);
  std::fesetround(FE_TONEAREST);
  CHECK(others == 0);
}

}  // namespace mtp::test::io_in_parallel_cases
