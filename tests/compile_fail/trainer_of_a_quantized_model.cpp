// expects: trainer: a quantized_model is for inference alone
#include "mtp/backend/cpu.hpp"
#include "mtp/model/quantized_model.hpp"
#include "mtp/train/trainer.hpp"

namespace mtp::test {

constexpr model_config to_be_quantized{.hidden_size = 64};

void trainer_of_a_quantized_model(context<cpu>& context,
                                  language_model<to_be_quantized, cpu>& model,
                                  quantized_model<to_be_quantized, cpu>& quantized,
                                  const dataset<>& data) {
#ifdef MTP_KO
  static_cast<void>(model);
  const trainer<to_be_quantized, cpu> run(context, quantized, data, {});
#else
  static_cast<void>(quantized);
  const trainer<to_be_quantized, cpu> run(context, model, data, {});
#endif
}

}  // namespace mtp::test
