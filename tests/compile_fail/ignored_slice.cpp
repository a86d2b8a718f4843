// expects: view::slice: the view itself stays as it is
#include "compile_fail/backends.hpp"

namespace mtp::test {

void ignored_slice(on_host<float, 4, 8> x) {
#ifdef MTP_KO
  x.slice(0, 1, 2);
#else
  static_cast<void>(x.slice(0, 1, 2));
#endif
}

}  // namespace mtp::test
