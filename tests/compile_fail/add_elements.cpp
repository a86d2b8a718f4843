// expects: add: y must be writable, and y, a and b of one element type: f64, f32 or bf16
#include "compile_fail/backends.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::test {

void add_elements(host_context& context, on_host<float, 4> y, on_host<const bf16, 4> b) {
#ifdef MTP_KO
  add(context, y, y, b);
#else
  static_cast<void>(b);
  add(context, y, y, y);
#endif
}

}  // namespace mtp::test
