// expects: add: expected (context, y, a, b), views of one backend
#include "compile_fail/backends.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::test {

void add_backends(host_context& context, on_host<float, 4, 8> y, on_device<const float, 4, 8> b) {
#ifdef MTP_KO
  add(context, y, y, b);
#else
  static_cast<void>(b);
  add(context, y, y, y);
#endif
}

}  // namespace mtp::test
