// expects: safetensors_file::verify: false says that there is no checksum
#include "compile_fail/backends.hpp"
#include "mtp/io/safetensors.hpp"

namespace mtp::test {

void ignored_checksum(const io::safetensors_file& file) {
#ifdef MTP_KO
  file.verify();
#else
  check(file.verify(), "no checksum");
#endif
}

}  // namespace mtp::test
