// expects: matmul: a must have as many columns as b has rows
#include "compile_fail/backends.hpp"
#include "mtp/ops/matmul.hpp"

namespace mtp::test {

void matmul_inner_size(host_context& context,
                       on_host<float, 4, 8> c,
                       on_host<const float, 4, 3> a,
                       on_host<const float, 3, 8> b,
                       on_host<const float, 5, 8> longer) {
#ifdef MTP_KO
  static_cast<void>(b);
  matmul(context, c, a, longer);
#else
  static_cast<void>(longer);
  matmul(context, c, a, b);
#endif
}

}  // namespace mtp::test
