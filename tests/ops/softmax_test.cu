#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/softmax_test.hpp"

namespace mtp::test::softmax {

TEST_CASE_TEMPLATE_DEFINE("softmax takes no workspace", Case, no_workspace) {
  using S = typename Case::scalar;
  staged_context context({.workspace_bytes = 0});
  const guarded<S, 2, staged> x(dims<2>(2, 40000), uniform(80000, 12));  // [2, 40000]
  guarded<S, 2, staged> y(dims<2>(2, 40000)), dx(dims<2>(2, 40000));     // [2, 40000]
  CHECK_NOTHROW(softmax_forward(context, y.view(), x.view()));
  CHECK_NOTHROW(softmax_backward(context, dx.view(), x.view(), y.view()));
}
TEST_CASE_TEMPLATE_APPLY(no_workspace, cases);

}  // namespace mtp::test::softmax
