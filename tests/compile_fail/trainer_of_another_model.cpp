// expects: trainer: expected a context, a language_model and a dataset of the trainer's own
// configuration, backend, element type and token type
#include "compile_fail/backends.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/train/trainer.hpp"

namespace mtp::test {

constexpr model_config narrow{.hidden_size = 64};

void trainer_of_another_model(context<cpu>& context,
                              language_model<narrow, cpu>& model,
                              language_model<narrow, cpu, double>& exact,
                              const dataset<>& data) {
#ifdef MTP_KO
  static_cast<void>(model);
  const trainer<narrow, cpu> run(context, exact, data, {});
#else
  static_cast<void>(exact);
  const trainer<narrow, cpu> run(context, model, data, {});
#endif
}

}  // namespace mtp::test
