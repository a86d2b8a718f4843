// expects: linear_forward: y must have as many rows as x
#include "compile_fail/backends.hpp"
#include "mtp/ops/linear.hpp"

namespace mtp::test {

void linear_rows(host_context& context,
                 on_host<float, 4, 8> y,
                 on_host<const float, 4, 3> x,
                 on_host<const float, 5, 3> taller,
                 weight_view<const float, host> w) {
#ifdef MTP_KO
  static_cast<void>(x);
  linear_forward(context, y, taller, w);
#else
  static_cast<void>(taller);
  linear_forward(context, y, x, w);
#endif
}

}  // namespace mtp::test
