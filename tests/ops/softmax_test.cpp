#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/softmax_test.hpp"

namespace mtp::test::softmax {

template <class Real>
Real exponential_of(Real value) {
  Real result[static_cast<std::size_t>(cpu_detail::lanes<Real>)];
  cpu_detail::store<Real>(result,
                          cpu_detail::exponential<Real>(cpu_detail::broadcast<Real>(value)));
  return result[0];
}

TEST_CASE_TEMPLATE("exponential is accurate, ends near zero and keeps NaN", S, float, double) {
  for (const double x : uniform(1000, 1, -80, 80)) {
    const S rounded = static_cast<S>(x);
    const double expected = std::exp(static_cast<double>(rounded));
    REQUIRE(within({static_cast<double>(exponential_of(rounded))},
                   {expected},
                   8 * unit_roundoff<S> * expected));
  }
  CHECK(exponential_of(S{0}) == 1);
  CHECK(std::isnan(exponential_of(std::numeric_limits<S>::quiet_NaN())));
  CHECK(exponential_of(-std::numeric_limits<S>::infinity()) < 2 * std::numeric_limits<S>::min());
  CHECK(exponential_of(std::numeric_limits<S>::lowest()) < 2 * std::numeric_limits<S>::min());
}

TEST_CASE("softmax with too little workspace throws and leaves the output alone") {
  cpu_context context({.threads = 1, .workspace_bytes = 64});
  guarded<float, 2, cpu> wide(dims<2>(1, 1000), uniform(1000, 12));  // [1, 1000]
  CHECK_THROWS_AS(softmax_forward(context, wide.view(), wide.view()), error);
  CHECK(wide.untouched());
  CHECK(context.workspace().used() == 0);
}

}  // namespace mtp::test::softmax
