#include "train_and_generate/decoding.hpp"

#include <doctest/doctest.h>

#include <vector>

namespace examples_decoding_cases {

TEST_CASE("a token with a row behind it in its pass was drafted") {
  using example::writers_of;
  const char memory[4] = {};
  const void *first = memory, *second = memory + 1, *third = memory + 2, *last = memory + 3;
  using writers = std::vector<int>;
  CHECK(writers_of({}).empty());
  CHECK(writers_of({first}) == writers{0});
  CHECK(writers_of({first, first, first}) == writers{0, 0, 0});
  // A pass with two accepted drafts, one without, one with all three, and one that was cut off.
  CHECK(writers_of({first, second, third, first, first, second, third, last, first, second}) ==
        writers{1, 2, 0, 0, 1, 2, 3, 0, 1, 0});
}

}  // namespace examples_decoding_cases
