// expects: extents: a static size must not be negative
#include "compile_fail/backends.hpp"

namespace mtp::test {

void extents_negative() {
#ifdef MTP_KO
  static_cast<void>(extents<4, -2>());
#else
  static_cast<void>(extents<4, 2>());
#endif
}

}  // namespace mtp::test
