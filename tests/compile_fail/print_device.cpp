// expects: host: the elements of a view lie on a device; copy it into a tensor with
// mtp::clone(context, view)
#include <ostream>

#include "compile_fail/backends.hpp"
#include "mtp/core/print.hpp"

namespace mtp::test {

void print_device(std::ostream& out, const tensor<float, extents<4>, device>& x) {
#ifdef MTP_KO
  out << x.view();
#else
  out << x;
#endif
}

}  // namespace mtp::test
