// expects: arena::scope: without a name it ends at once
#include "compile_fail/backends.hpp"
#include "mtp/core/arena.hpp"

namespace mtp::test {

void ignored_scope(arena& memory) {
#ifdef MTP_KO
  arena::scope{memory};
#else
  const arena::scope pieces(memory);
#endif
}

}  // namespace mtp::test
