// expects: operator: the elements lie on a device, and an operator names no context; write
// mtp::add(context, a, b)
#include "compile_fail/backends.hpp"
#include "mtp/ops/operators.hpp"

namespace mtp::test {

void operator_device(context<device>& context, const tensor<float, extents<4>, device>& x) {
#ifdef MTP_KO
  static_cast<void>(x + x);
#else
  static_cast<void>(add(context, x, x));
#endif
}

}  // namespace mtp::test
