// expects: view: the elements belong to another backend; copy them with tensor::to()
#include "compile_fail/backends.hpp"

namespace mtp::test {

void view_backends(on_device<float, 4, 8> x) {
#ifdef MTP_KO
  const matrix_view<const float, host> y(x);
  static_cast<void>(y);
#else
  const matrix_view<const float, device> y(x);
  static_cast<void>(y);
#endif
}

}  // namespace mtp::test
