// expects: reduce: y must have the shape of x without the dimension, or with its size 1
#include "compile_fail/backends.hpp"
#include "mtp/ops/reduce_axis.hpp"

namespace mtp::test {

void sum_axis_rank(host_context& context,
                   on_host<float, 2, 3, 1, 1> y,
                   on_host<const float, 2, 3, 4> x) {
#ifdef MTP_KO
  sum(context, y, x, 2);
#else
  sum(context, y.select(3, 0), x, 2);
#endif
}

}  // namespace mtp::test
