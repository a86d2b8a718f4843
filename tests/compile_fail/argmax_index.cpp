// expects: argmax: y must be writable and hold token_t or index_t
#include "compile_fail/backends.hpp"
#include "mtp/ops/reduce.hpp"

namespace mtp::test {

void argmax_index(host_context& context,
                  on_host<token_t, 4> y,
                  on_host<float, 4> floats,
                  on_host<const float, 4, 8> x) {
#ifdef MTP_KO
  static_cast<void>(y);
  argmax(context, floats, x);
#else
  static_cast<void>(floats);
  argmax(context, y, x);
#endif
}

}  // namespace mtp::test
