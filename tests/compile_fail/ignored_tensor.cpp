// expects: tensor::to: the tensor itself stays where it is
#include "compile_fail/backends.hpp"

namespace mtp::test {

void ignored_tensor(const tensor<float, extents<4>, host>& x) {
#ifdef MTP_KO
  x.to<device>();
#else
  const auto there = x.to<device>();
#endif
}

}  // namespace mtp::test
