// expects: view::reshape: the view itself stays as it is
#include "compile_fail/backends.hpp"

namespace mtp::test {

void ignored_reshape(on_host<float, 4, 8> x) {
#ifdef MTP_KO
  x.reshape(extents<32>());
#else
  static_cast<void>(x.reshape(extents<32>()));
#endif
}

}  // namespace mtp::test
