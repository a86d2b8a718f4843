// expects: concatenate: y and the parts must have one element type, backend and rank
#include "compile_fail/backends.hpp"
#include "mtp/ops/join.hpp"

namespace mtp::test {

void concatenate_elements(host_context& context,
                          tensor<float, extents<8>, host>& y,
                          const tensor<float, extents<4>, host>& a,
                          const tensor<double, extents<4>, host>& b) {
#ifdef MTP_KO
  concatenate(context, y, 0, a, b);
#else
  static_cast<void>(b);
  concatenate(context, y, 0, a, a);
#endif
}

}  // namespace mtp::test
