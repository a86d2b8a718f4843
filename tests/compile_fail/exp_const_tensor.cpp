// expects: mtp: y receives the result, so it must be a variable that is not const
#include "compile_fail/backends.hpp"
#include "mtp/ops/functions.hpp"

namespace mtp::test {

void exp_const_tensor(host_context& context,
                      tensor<float, extents<4>, host>& y,
                      const tensor<float, extents<4>, host>& x) {
#ifdef MTP_KO
  exp(context, x, y);
#else
  exp(context, y, x);
#endif
}

}  // namespace mtp::test
