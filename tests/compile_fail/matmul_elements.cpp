// expects: matmul: f64 does not mix with other element types
#include "compile_fail/backends.hpp"
#include "mtp/ops/matmul.hpp"

namespace mtp::test {

void matmul_elements(host_context& context,
                     on_host<float, 4, 4> c,
                     on_host<const bf16, 4, 4> b,
                     on_host<const double, 4, 4> exact) {
#ifdef MTP_KO
  static_cast<void>(b);
  matmul(context, c, c, exact);
#else
  static_cast<void>(exact);
  matmul(context, c, c, b);
#endif
}

}  // namespace mtp::test
