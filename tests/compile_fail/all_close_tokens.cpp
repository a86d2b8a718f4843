// expects: all_close: elements must be f64, f32 or bf16; compare others with ==
#include "compile_fail/backends.hpp"
#include "mtp/core/equality.hpp"

namespace mtp::test {

bool all_close_tokens(on_host<const token_t, 4> a, on_host<const token_t, 4> b) {
#ifdef MTP_KO
  return all_close(a, b);
#else
  return a == b;
#endif
}

}  // namespace mtp::test
