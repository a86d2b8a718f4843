#include "fuzz/folder_harness.hpp"

#include "fuzz/replay.hpp"

TEST_CASE("the corpus of the folder harness breaks no promise") {
  mtp::fuzz::replay("folder", [](auto bytes) { mtp::fuzz::harness::fuzz_one(bytes); });
}
