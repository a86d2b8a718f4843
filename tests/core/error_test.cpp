#include "mtp/core/error.hpp"

#include <doctest/doctest.h>

#include <string>
#include <type_traits>

#include "support/comma_locale.hpp"

namespace mtp::test::core_error_cases {

TEST_CASE("check passes in silence and throws all its parts in one message") {
  CHECK_NOTHROW(check(true, "never seen"));
  CHECK_THROWS_WITH_AS(
      check(false, "f: expected ", 3, ", got ", 4.5), "f: expected 3, got 4.5", error);
}

TEST_CASE("numbers in messages do not depend on the locale") {
  const mtp::testing::comma_locale here;
  CHECK_THROWS_WITH_AS(
      fail("f: ", 1234567, ", ", -2500000L, ", ", 0.5, ", ", 12345.5F, ", ", true, ", ", 'c'),
      "f: 1234567, -2500000, 0.5, 12345.5, 1, c",
      error);
}

TEST_CASE("fail throws a runtime_error") {
  static_assert(std::is_base_of_v<std::runtime_error, error>);
  CHECK_THROWS_AS(fail("broken"), std::runtime_error);
}

}  // namespace mtp::test::core_error_cases
