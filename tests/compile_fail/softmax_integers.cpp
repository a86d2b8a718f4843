// expects: softmax_forward: y must be writable, and y and x of one element type: f64, f32 or bf16
#include "compile_fail/backends.hpp"
#include "mtp/ops/softmax.hpp"

namespace mtp::test {

void softmax_integers(host_context& context, on_host<float, 4> y, on_host<token_t, 4> tokens) {
#ifdef MTP_KO
  static_cast<void>(y);
  softmax_forward(context, tokens, tokens);
#else
  static_cast<void>(tokens);
  softmax_forward(context, y, y);
#endif
}

}  // namespace mtp::test
