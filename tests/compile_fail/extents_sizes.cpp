// expects: extents: static sizes differ
#include "compile_fail/backends.hpp"

namespace mtp::test {

void extents_sizes(on_host<float, dynamic, 8> x) {
#ifdef MTP_KO
  on_host<float, dynamic, 9> y(x);
  static_cast<void>(y);
#else
  on_host<float, 4, dynamic> y(x);
  static_cast<void>(y);
#endif
}

}  // namespace mtp::test
