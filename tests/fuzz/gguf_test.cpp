#include "fuzz/gguf_harness.hpp"

#include "fuzz/replay.hpp"

TEST_CASE("the corpus of the gguf harness breaks no promise") {
  mtp::fuzz::replay("gguf", [](auto bytes) { mtp::fuzz::harness::fuzz_one(bytes); });
}
