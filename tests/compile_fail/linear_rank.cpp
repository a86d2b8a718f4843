// expects: linear_forward: expected (context, y [M, N], x [M, K], w), of one backend, w a
// weight_view of x's element type; for any other matrix, use matmul with view::transpose()
#include "compile_fail/backends.hpp"
#include "mtp/ops/linear.hpp"

namespace mtp::test {

void linear_rank(host_context& context,
                 on_host<float, 4, 8> y,
                 on_host<const float, 4, 3> x,
                 on_host<const float, 2, 2, 3> heads,
                 weight_view<const float, host> w) {
#ifdef MTP_KO
  static_cast<void>(x);
  linear_forward(context, y, heads, w);
#else
  static_cast<void>(heads);
  linear_forward(context, y, x, w);
#endif
}

}  // namespace mtp::test
