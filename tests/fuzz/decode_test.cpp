#include "fuzz/decode_harness.hpp"

#include "fuzz/replay.hpp"

TEST_CASE("the corpus of the decode harness breaks no promise") {
  mtp::fuzz::replay("decode", [](auto bytes) { mtp::fuzz::harness::fuzz_one(bytes); });
}
