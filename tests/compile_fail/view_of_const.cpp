// expects: view: a view of const elements cannot become one that writes
#include "compile_fail/backends.hpp"

namespace mtp::test {

void view_of_const(on_host<const float, 4> x) {
#ifdef MTP_KO
  const vector_view<float, host> y(x);
  static_cast<void>(y);
#else
  const vector_view<const float, host> y(x);
  static_cast<void>(y);
#endif
}

}  // namespace mtp::test
