#include "fuzz/npy_harness.hpp"

#include "fuzz/replay.hpp"

TEST_CASE("the corpus of the npy harness breaks no promise") {
  mtp::fuzz::replay("npy", [](auto bytes) { mtp::fuzz::harness::fuzz_one(bytes); });
}
