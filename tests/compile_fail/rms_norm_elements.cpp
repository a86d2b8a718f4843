// expects: rms_norm_forward: expected (context, y, inv_rms, x, weight [C], epsilon), of one
// backend, y, x and weight of one element type, inv_rms of its accumulator type
#include "compile_fail/backends.hpp"
#include "mtp/ops/rms_norm.hpp"

namespace mtp::test {

void rms_norm_elements(host_context& context,
                       matrix_view<bf16, host> y,
                       vector_view<float, host> inv_rms,
                       vector_view<const bf16, host> weight,
                       vector_view<const float, host> master) {
#ifdef MTP_KO
  static_cast<void>(weight);
  rms_norm_forward(context, y, inv_rms, y, master, 1e-5);
#else
  static_cast<void>(master);
  rms_norm_forward(context, y, inv_rms, y, weight, 1e-5);
#endif
}

}  // namespace mtp::test
