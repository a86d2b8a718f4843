// expects: tensor: include the backend's header first, e.g. <mtp/backend/cpu.hpp>
#include "compile_fail/backends.hpp"

namespace mtp::test {

struct absent;
#ifdef MTP_KO
using tensor_header_missing = tensor<float, dims<2>, absent>;
#else
using tensor_header_missing = tensor<float, dims<2>, host>;
#endif
static_assert(sizeof(tensor_header_missing) > 0);

}  // namespace mtp::test
