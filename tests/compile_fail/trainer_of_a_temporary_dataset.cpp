// expects: trainer: the context, the model and the dataset must outlive the trainer, so they need
// names
#include "compile_fail/backends.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/train/trainer.hpp"

namespace mtp::test {

constexpr model_config lasting{.hidden_size = 64};

void trainer_of_a_temporary_dataset(context<cpu>& context,
                                    language_model<lasting, cpu>& model,
                                    const std::vector<std::uint8_t>& text) {
#ifdef MTP_KO
  const trainer<lasting, cpu> run(context, model, dataset<>(text, {}, {.window = 129}), {});
#else
  const dataset<> data(text, {}, {.window = 129});
  const trainer<lasting, cpu> run(context, model, data, {});
#endif
}

}  // namespace mtp::test
