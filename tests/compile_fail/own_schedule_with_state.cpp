// expects: own_schedule: expected a function of the step that can be called as const
#include "mtp/train/schedule.hpp"

namespace mtp::test {

inline learning_rate_schedule own_schedule_with_state() {
  double rate = 1;
#ifdef MTP_KO
  return own_schedule("halved in each call", [rate](index_t) mutable { return rate /= 2; });
#else
  return own_schedule("the same", [rate](index_t) { return rate; });
#endif
}

}  // namespace mtp::test
