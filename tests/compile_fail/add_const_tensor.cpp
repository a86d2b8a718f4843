// expects: add: the first tensor receives the result, so it must be a variable that is not const
#include "compile_fail/backends.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::test {

void add_const_tensor(host_context& context,
                      tensor<float, extents<4>, host>& y,
                      const tensor<float, extents<4>, host>& x) {
#ifdef MTP_KO
  add(context, x, y, y);
#else
  add(context, y, x, x);
#endif
}

}  // namespace mtp::test
