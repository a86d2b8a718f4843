// expects: load: NumPy has no such element type; load its accumulator type and convert with
// mtp::copy
#include "compile_fail/backends.hpp"
#include "mtp/io/npy.hpp"

namespace mtp::test {

void load_npy_bf16(const std::filesystem::path& path) {
#ifdef MTP_KO
  static_cast<void>(io::load_npy<bf16, dims<2>, host>(path));
#else
  static_cast<void>(io::load_npy<float, dims<2>, host>(path));
#endif
}

}  // namespace mtp::test
