#include "mtp/core/refusal.hpp"

#include <doctest/doctest.h>

#include <concepts>
#include <string>
#include <type_traits>

namespace mtp::test::core_refusal_cases {

namespace {

struct base {};
struct derived : base {};

int chosen(int, int) {
  return 1;
}
int chosen(mtp::detail::any, mtp::detail::any, ...) {
  return 2;
}

}  // namespace

TEST_CASE("an overload that takes anything is the worse match for a call that fits") {
  CHECK(chosen(1, 2) == 1);
  CHECK(chosen('a', 2.0) == 1);  // conversions of the language come first
  CHECK(chosen(std::string(), base()) == 2);
  CHECK(chosen(1, 2, 3) == 2);
}

TEST_CASE("a function whose conditions do not hold has the result of a refusal") {
  static_assert(std::is_void_v<mtp::detail::void_if<true, true>>);
  static_assert(std::same_as<mtp::detail::void_if<true, false>, mtp::detail::refusal>);
  static_assert(mtp::detail::writes<void> && mtp::detail::writes<mtp::detail::refusal> &&
                !mtp::detail::writes<int>);
}

TEST_CASE("temporaries are told from objects with a name") {
  static_assert(mtp::detail::temporary<base, base> && mtp::detail::temporary<const derived, base>);
  static_assert(!mtp::detail::temporary<base&, base> && !mtp::detail::temporary<const base&, base>);
  static_assert(!mtp::detail::temporary<int, base> && !mtp::detail::temporary<base, derived>);
}

}  // namespace mtp::test::core_refusal_cases
