// expects: add: the first tensor receives the result, so it must be a variable that is not const
#include "compile_fail/backends.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::test {

tensor<float, extents<4>, host> made();  // [4]

void add_temporary(host_context& context, tensor<float, extents<4>, host>& x) {
#ifdef MTP_KO
  add(context, made(), x, x);
#else
  add(context, x, made(), x);
#endif
}

}  // namespace mtp::test
