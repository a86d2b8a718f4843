// expects: quantized_model: the backend has no operation quantize_weight for this element type, so
// it has no weights in 8 bits
#include "mtp/backend/cpu.hpp"
#include "mtp/model/quantized_model.hpp"

namespace mtp::test {

constexpr model_config in_8_bits{.hidden_size = 64};

#ifdef MTP_KO
using type_in_8_bits = double;
#else
using type_in_8_bits = float;
#endif

void quantized_model_of_f64(context<cpu>& context,
                            const language_model<in_8_bits, cpu, type_in_8_bits>& model) {
  const auto quantized = quantize(context, model);
  static_cast<void>(quantized);
}

}  // namespace mtp::test
