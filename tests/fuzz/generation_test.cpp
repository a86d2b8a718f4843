#include "fuzz/generation_harness.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "mtp/core/random.hpp"

TEST_CASE("random histories of a batch_generator break no promise") {
  const mtp::random_stream random(mtp::seed{2026}, 0);
  std::vector<std::uint8_t> bytes(160);
  for (std::uint64_t run = 0; run < 250; ++run) {
    CAPTURE(run);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<std::uint8_t>(random.below(run * bytes.size() + i, 256));
    }
    CHECK_NOTHROW(mtp::fuzz::harness::fuzz_one(bytes));
  }
}
