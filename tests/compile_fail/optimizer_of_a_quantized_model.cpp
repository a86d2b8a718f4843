// expects: adamw: a quantized_model is for inference, and has no parameters that an optimizer could
// update
#include "mtp/backend/cpu.hpp"
#include "mtp/model/quantized_model.hpp"
#include "mtp/train/adamw.hpp"

namespace mtp::test {

constexpr model_config not_updated{.hidden_size = 64};

void optimizer_of_a_quantized_model(context<cpu>& context,
                                    language_model<not_updated, cpu>& model,
                                    quantized_model<not_updated, cpu>& quantized) {
#ifdef MTP_KO
  static_cast<void>(model);
  const adamw<not_updated, cpu> optimizer(context, quantized, {});
#else
  static_cast<void>(quantized);
  const adamw<not_updated, cpu> optimizer(context, model, {});
#endif
}

}  // namespace mtp::test
