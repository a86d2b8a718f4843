// expects: tensor::operator(): the elements lie on a device; copy them with to_host()
#include "compile_fail/backends.hpp"

namespace mtp::test {

void tensor_device_element(tensor<float, extents<4>, host>& x,
                           tensor<float, extents<4>, device>& far) {
#ifdef MTP_KO
  static_cast<void>(x);
  far(0) = 1;
#else
  static_cast<void>(far);
  x(0) = 1;
#endif
}

}  // namespace mtp::test
