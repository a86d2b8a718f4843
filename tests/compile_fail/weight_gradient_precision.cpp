// expects: linear_backward_weight: dw must hold elements of the accumulator type of dy
#include "compile_fail/backends.hpp"
#include "mtp/ops/linear.hpp"

namespace mtp::test {

void weight_gradient_precision(host_context& context,
                               weight_view<float, host> dw,
                               weight_view<bf16, host> rounded,
                               matrix_view<const bf16, host> dy,
                               matrix_view<const bf16, host> x) {
#ifdef MTP_KO
  static_cast<void>(dw);
  linear_backward_weight(context, rounded, dy, x);
#else
  static_cast<void>(rounded);
  linear_backward_weight(context, dw, dy, x);
#endif
}

}  // namespace mtp::test
