// expects: view::at: the elements lie on a device; copy them with tensor::to_host()
#include "compile_fail/backends.hpp"

namespace mtp::test {

void at_device(tensor<float, extents<4>, device>& x) {
#ifdef MTP_KO
  x.at(0) = 1;
#else
  x.to_host().at(0) = 1;
#endif
}

}  // namespace mtp::test
