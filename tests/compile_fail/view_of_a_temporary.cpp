// expects: tensor::view: the view of a temporary tensor would outlive it; give the tensor a name,
// or give the operation the tensor itself
#include "compile_fail/backends.hpp"

namespace mtp::test {

void view_of_a_temporary() {
#ifdef MTP_KO
  const auto x = tensor<float, extents<4>, host>().view();
#else
  const tensor<float, extents<4>, host> memory;
  const auto x = memory.view();
#endif
  static_cast<void>(x);
}

}  // namespace mtp::test
