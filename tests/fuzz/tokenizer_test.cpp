#include "fuzz/tokenizer_harness.hpp"

#include "fuzz/replay.hpp"

TEST_CASE("the corpus of the tokenizer harness breaks no promise") {
  mtp::fuzz::replay("tokenizer", [](auto bytes) { mtp::fuzz::harness::fuzz_one(bytes); });
}
