// expects: silu_residual_forward: expected (context, y, x, u), dynamic views [N, C] of one backend
// and element type, y writable
#include "compile_fail/backends.hpp"
#include "mtp/ops/swiglu.hpp"

namespace mtp::test {

void silu_residual_const(host_context& context,
                         matrix_view<float, host> y,
                         matrix_view<const float, host> x) {
#ifdef MTP_KO
  static_cast<void>(y);
  silu_residual_forward(context, x, x, x);
#else
  silu_residual_forward(context, y, x, x);
#endif
}

}  // namespace mtp::test
