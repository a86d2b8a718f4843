#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/swiglu_test.hpp"

namespace mtp::test::swiglu {

// Nothing but zero and the number itself is left of it; exp(-g) is infinite on one side.
TEST_CASE_TEMPLATE_DEFINE("swiglu is exact at the ends of the range", Case, ends_of_range) {
  using S = typename Case::scalar;
  auto context = testing<staged>::make_context();
  const double largest = static_cast<double>(std::numeric_limits<accumulate_t<S>>::max()) / 2;
  for (const double g : {1000.0, largest}) {
    guarded<S, 2, staged> gate_up(dims<2>{2, 2}, std::vector<double>{g, 1, -g, 1});  // [2, 2]
    guarded<S, 2, staged> dy(dims<2>{2, 1}, std::vector<double>{1, 1});              // [2, 1]
    guarded<S, 2, staged> y(dims<2>{2, 1}), d_gate_up(dims<2>{2, 2});  // [2, 1], [2, 2]
    swiglu_forward(context, y.view(), gate_up.view());
    swiglu_backward(context, d_gate_up.view(), dy.view(), gate_up.view());
    const double stored = values(gate_up.view())[0];
    CHECK(within(y.view(), {stored, 0}, 0.0));
    CHECK(within(d_gate_up.view(), {1, stored, 0, 0}, 0.0));
  }
}
TEST_CASE_TEMPLATE_APPLY(ends_of_range, cases);

}  // namespace mtp::test::swiglu
