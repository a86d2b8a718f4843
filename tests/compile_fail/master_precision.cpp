// expects: adamw_update: expected (context, value, master, first, second, gradient, ranges,
// coefficients), of one backend, master to gradient of the accumulator type of value
#include "compile_fail/backends.hpp"
#include "mtp/ops/optimizer.hpp"

namespace mtp::test {

void master_precision(host_context& context,
                      vector_view<bf16, host> value,
                      vector_view<float, host> master,
                      vector_view<float, host> moment,
                      vector_view<const float, host> gradient,
                      vector_view<const adamw_range, host> ranges,
                      const adamw_coefficients& coefficients) {
#ifdef MTP_KO
  static_cast<void>(master);
  adamw_update(context, value, value, moment, moment, gradient, ranges, coefficients);
#else
  adamw_update(context, value, master, moment, moment, gradient, ranges, coefficients);
#endif
}

}  // namespace mtp::test
