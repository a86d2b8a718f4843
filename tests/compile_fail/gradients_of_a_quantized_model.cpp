// expects: model_loss: a quantized_model is for inference and has no gradients; scorer in
// <mtp/decode/score.hpp> gives its losses
#include "mtp/backend/cpu.hpp"
#include "mtp/loss/model_loss.hpp"
#include "mtp/model/quantized_model.hpp"

namespace mtp::test {

constexpr model_config without_gradients{.hidden_size = 64};

template <class Model>
void losses_of(context<cpu>& context,
               const Model& model,
               const batch_view& batch,
               float* gradients) {
  using loss_type = model_loss<without_gradients, cpu>;
  loss_type loss(context, batch.batch, batch.length);
  loss.with_gradients(context,
                      model,
                      {gradients, language_model<without_gradients, cpu>::layout.storage},
                      batch,
                      {});
}

void gradients_of_a_quantized_model(context<cpu>& context,
                                    const language_model<without_gradients, cpu>& model,
                                    const quantized_model<without_gradients, cpu>& quantized,
                                    const batch_view& batch,
                                    float* gradients) {
#ifdef MTP_KO
  static_cast<void>(model);
  losses_of(context, quantized, batch, gradients);
#else
  static_cast<void>(quantized);
  losses_of(context, model, batch, gradients);
#endif
}

}  // namespace mtp::test
