// What ThreadSanitizer calls. Not in a header: definitions that may be there twice lose against its
// own ones.
#include "emulation/sanitizers.hpp"

#if MTP_EMULATION_TSAN

extern "C" {

void __tsan_on_report(void*);
void __tsan_on_report(void*) {
  __atomic_fetch_add(&mtp::emulation::reported_races, 1, __ATOMIC_RELAXED);
}

// Equal reports count again, because tests compare counts, and the process goes on. Where races are
// expected, TSAN_OPTIONS=exitcode=0 leaves its exit status to the tests.
const char* __tsan_default_options();
const char* __tsan_default_options() {
  return "suppress_equal_stacks=0:suppress_equal_addresses=0:halt_on_error=0";
}
}

#endif
