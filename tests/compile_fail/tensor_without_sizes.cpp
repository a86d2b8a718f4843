// expects: tensor: the type leaves sizes open; construct it from a shape, as in tensor(dims<2>(2,
// 3))
#include "compile_fail/backends.hpp"

namespace mtp::test {

void tensor_without_sizes() {
#ifdef MTP_KO
  const tensor<float, extents<dynamic, 8>, host> x;
#else
  const tensor<float, extents<4, 8>, host> x;
#endif
}

}  // namespace mtp::test
