// expects: sum: y must have the shape of x without its last dimension, or rank 0
#include "compile_fail/backends.hpp"
#include "mtp/ops/reduce.hpp"

namespace mtp::test {

void sum_rank(host_context& context,
              on_host<float, 4> y,
              on_host<const float, 4, 8> x,
              on_host<const float, 2, 4, 8> deeper) {
#ifdef MTP_KO
  static_cast<void>(x);
  sum(context, y, deeper);
#else
  static_cast<void>(deeper);
  sum(context, y, x);
#endif
}

}  // namespace mtp::test
