#include "mtp/core/turn.hpp"

#include <doctest/doctest.h>

namespace mtp::test::core_turn_cases {

TEST_CASE("an object at work refuses another turn until the first one ends") {
  bool at_work = false;
  {
    const mtp::detail::turn first(at_work, "never");
    CHECK(at_work);
    CHECK_THROWS_WITH_AS(mtp::detail::turn(at_work, "f: called from g"), "f: called from g", error);
    CHECK(at_work);  // the refused turn has ended nothing
  }
  CHECK(!at_work);
  const mtp::detail::turn again(at_work, "never");
  CHECK(at_work);
}

}  // namespace mtp::test::core_turn_cases
