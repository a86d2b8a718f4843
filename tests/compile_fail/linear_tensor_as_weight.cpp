// expects: linear_forward: expected (context, y [M, N], x [M, K], w), of one backend, w a
// weight_view of x's element type; for any other matrix, use matmul with view::transpose()
#include "compile_fail/backends.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/matmul.hpp"

namespace mtp::test {

void linear_tensor_as_weight(host_context& context,
                             tensor<float, extents<2, 3>, host>& y,
                             const tensor<float, extents<2, 4>, host>& x,
                             const tensor<float, extents<3, 4>, host>& w) {
#ifdef MTP_KO
  linear_forward(context, y, x, w);
#else
  matmul(context, y, x, w.view().transpose());
#endif
}

}  // namespace mtp::test
