// expects: softmax_forward: y and x must have the same shape
#include "compile_fail/backends.hpp"
#include "mtp/ops/softmax.hpp"

namespace mtp::test {

void softmax_rank(host_context& context,
                  on_host<float, dynamic, 8> y,
                  on_host<const float, dynamic, dynamic> x,
                  on_host<const float, dynamic> row) {
#ifdef MTP_KO
  static_cast<void>(x);
  softmax_forward(context, y, row);
#else
  static_cast<void>(row);
  softmax_forward(context, y, x);
#endif
}

}  // namespace mtp::test
