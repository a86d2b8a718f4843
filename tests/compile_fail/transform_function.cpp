// expects: transform: the function must take an element of x and return one of y
#include "compile_fail/backends.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::test {

void transform_function(host_context& context, on_host<float, 4> y) {
#ifdef MTP_KO
  transform(context, y, y, [](const char* x) { return x; });
#else
  transform(context, y, y, [](float x) { return x; });
#endif
}

}  // namespace mtp::test
