// expects: fill: y must be writable
#include "compile_fail/backends.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::test {

void fill_const(host_context& context, on_host<float, 4> y, on_host<const float, 4> read_only) {
#ifdef MTP_KO
  static_cast<void>(y);
  fill(context, read_only, 1.0f);
#else
  static_cast<void>(read_only);
  fill(context, y, 1.0f);
#endif
}

}  // namespace mtp::test
