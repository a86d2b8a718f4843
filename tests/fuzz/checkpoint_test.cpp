#include "fuzz/checkpoint_harness.hpp"

#include "fuzz/replay.hpp"

TEST_CASE("the corpus of the checkpoint harness breaks no promise") {
  mtp::fuzz::replay("checkpoint", [](auto bytes) { mtp::fuzz::harness::fuzz_one(bytes); });
}
