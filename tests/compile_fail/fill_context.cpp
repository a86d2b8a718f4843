// expects: fill: expected (context, y, value), y a view of the context's backend
#include "compile_fail/backends.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::test {

void fill_context(host_context& context, on_host<float, 4> y, on_device<float, 4> elsewhere) {
#ifdef MTP_KO
  static_cast<void>(y);
  fill(context, elsewhere, 1.0f);
#else
  static_cast<void>(elsewhere);
  fill(context, y, 1.0f);
#endif
}

}  // namespace mtp::test
