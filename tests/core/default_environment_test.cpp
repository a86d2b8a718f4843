#include "mtp/core/default_environment.hpp"

#include <doctest/doctest.h>

#include <cfenv>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/equality.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/print.hpp"
#include "mtp/core/tensor.hpp"
#include "support/environment.hpp"

namespace mtp::test::core_default_environment_cases {

TEST_CASE("within its scope the environment is the default one, behind it the caller's") {
  const environment_state usual = environment_state::now();
  for (const auto& setting : odd_environment::all()) {
    CAPTURE(std::string(setting.name));
    environment_state before, within, after, after_exception;
    {
      const odd_environment odd(setting);
      before = environment_state::now();
      {
        const mtp::detail::default_environment scope;
        within = environment_state::now();
      }
      after = environment_state::now();
      try {
        mtp::detail::in_default_environment([] { throw std::runtime_error("here"); });
      } catch (const std::runtime_error&) {
        after_exception = environment_state::now();
      }
    }
    CHECK(before != usual);
    CHECK(within == usual);
    CHECK(after == before);
    CHECK(after_exception == before);
  }
}

TEST_CASE("flags stay raised behind the scope, and the caller's traps do not see them") {
  volatile double zero = 0, result = 0;
  volatile long double longer_zero = 0, longer_result = 0;
  for (const auto& setting : odd_environment::all()) {
    CAPTURE(std::string(setting.name));
    int before = 0, raised = 0;
    {
      const odd_environment odd(setting);
      {
        const mtp::detail::default_environment scope;
        std::feraiseexcept(FE_INEXACT);
      }
      before = std::fetestexcept(FE_ALL_EXCEPT);
      mtp::detail::in_default_environment([&] {
        result = 1 / zero;
        longer_result = zero / longer_zero;  // the x87, where there is one
      });
      longer_result = longer_zero + 1;  // would trap now
      result = result - 1;
      raised = std::fetestexcept(FE_ALL_EXCEPT);
    }
    CHECK(before == FE_INEXACT);
    CHECK((raised & FE_DIVBYZERO) != 0);
    CHECK(result > 0);
    CHECK(longer_result == 1);
  }
}

TEST_CASE("messages, printed tensors and comparisons are those of the default environment") {
  // Rounded to nearest, 2.5 is 2.5 and 0.1 is 0.1; upward, they would be more.
  tensor<float, dims<1>, cpu> x(dims<1>(3), {0.1F, 1e-40F, 2.5F});            // [3]
  const tensor<float, dims<1>, cpu> other(dims<1>(3), {0.1F, 3e-40F, 2.5F});  // [3]
  const auto printed = [&] {
    std::ostringstream out;
    out << x;
    return out.str();
  };
  const auto message = [&] {
    try {
      fail("test: ", 0.1F, ' ', 1.0000005, ' ', 1e-40F, ' ', 1e300);
    } catch (const error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  const std::string expected_print = printed(), expected_message = message();
  CHECK_FALSE(all_close(x, other, 1e-6, 1e-42));
  for (const auto& setting : odd_environment::all()) {
    CAPTURE(std::string(setting.name));
    std::string actual_print, actual_message;
    bool close = true;
    {
      const odd_environment odd(setting);
      actual_print = printed();
      actual_message = message();
      close = all_close(x, other, 1e-6, 1e-42);
    }
    CHECK(actual_print == expected_print);
    CHECK(actual_message == expected_message);
    CHECK_FALSE(close);
  }
}

}  // namespace mtp::test::core_default_environment_cases
