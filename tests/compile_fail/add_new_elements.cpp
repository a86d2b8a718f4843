// expects: add: a and b must have one element type; convert elements with mtp::copy
#include "compile_fail/backends.hpp"
#include "mtp/ops/operators.hpp"

namespace mtp::test {

void add_new_elements(host_context& context,
                      on_host<const float, 4> a,
                      on_host<const double, 4> b) {
#ifdef MTP_KO
  static_cast<void>(add(context, a, b));
#else
  static_cast<void>(b);
  static_cast<void>(add(context, a, a));
#endif
}

}  // namespace mtp::test
