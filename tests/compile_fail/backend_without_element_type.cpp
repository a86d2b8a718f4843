// expects: linear_forward: the backend has no such operation for these arguments
#include "compile_fail/backends.hpp"
#include "mtp/ops/linear.hpp"

namespace mtp::test {

void backend_without_element_type(host_context& context,
                                  weight_view<const float, host> w,
                                  weight_view<const double, host> exact,
                                  matrix_view<float, host> y,
                                  matrix_view<double, host> z) {
#ifdef MTP_KO
  static_cast<void>(w);
  static_cast<void>(y);
  linear_forward(context, z, z, exact);
#else
  static_cast<void>(exact);
  static_cast<void>(z);
  linear_forward(context, y, y, w);
#endif
}

}  // namespace mtp::test
