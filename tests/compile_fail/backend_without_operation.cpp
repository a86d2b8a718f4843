// expects: swiglu_forward: the backend has no such operation for these arguments
#include "compile_fail/backends.hpp"
#include "mtp/ops/swiglu.hpp"

namespace mtp::test {

void backend_without_operation(host_context& context,
                               matrix_view<float, host> y,
                               matrix_view<const float, host> x) {
#ifdef MTP_KO
  swiglu_forward(context, y, x);
#else
  silu_residual_forward(context, y, x, x);
#endif
}

}  // namespace mtp::test
