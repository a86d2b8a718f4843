#include "fuzz/dataset_harness.hpp"

#include "fuzz/replay.hpp"

TEST_CASE("the corpus of the dataset harness breaks no promise") {
  mtp::fuzz::replay("dataset", [](auto bytes) { mtp::fuzz::harness::fuzz_one(bytes); });
}
