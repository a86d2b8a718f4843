#include "train_and_generate/written_text.hpp"

#include <doctest/doctest.h>

#include <vector>

namespace examples_written_text_cases {

TEST_CASE("drafts are counted from the token that the trunk wrote in front of them") {
  example::written_text text;
  // A pass with two accepted drafts, one without, one with all three, and one that was cut off.
  for (const bool drafted : {true, true, false, false, true, true, true, false, true}) {
    text.add({.token = 0x80 + static_cast<mtp::token_t>(text.bytes.size()), .drafted = drafted});
  }
  CHECK(text.bytes == "\x80\x81\x82\x83\x84\x85\x86\x87\x88");
  CHECK(text.writers == std::vector<int>{1, 2, 0, 0, 1, 2, 3, 0, 1});
}

}  // namespace examples_written_text_cases
