// expects: view::at: expected one index for each dimension
#include "compile_fail/backends.hpp"

namespace mtp::test {

float at_rank(on_host<const float, 4, 8> x) {
#ifdef MTP_KO
  return x.at(0);
#else
  return x.at(0, 0);
#endif
}

}  // namespace mtp::test
