// expects: trainer: the context, the model and the dataset must outlive the trainer, so they need
// names
#include "compile_fail/backends.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/train/trainer.hpp"

namespace mtp::test {

constexpr model_config kept{.hidden_size = 64};

void trainer_of_a_temporary_model(context<cpu>& context, const dataset<>& data) {
#ifdef MTP_KO
  const trainer<kept, cpu> run(context, language_model<kept, cpu>(context, seed{1}), data, {});
#else
  language_model<kept, cpu> model(context, seed{1});
  const trainer<kept, cpu> run(context, model, data, {});
#endif
}

}  // namespace mtp::test
