// expects: trainer: the context, the model and the dataset must outlive the trainer, so they need
// names
#include "compile_fail/backends.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/train/trainer.hpp"

namespace mtp::test {

constexpr model_config braced{.hidden_size = 64};

void trainer_of_a_dataset_in_braces(context<cpu>& context,
                                    language_model<braced, cpu>& model,
                                    const std::vector<std::uint8_t>& text) {
#ifdef MTP_KO
  const trainer<braced, cpu> run(context, model, {text, {}, {.window = 129}}, {});
#else
  const dataset<> data{text, {}, {.window = 129}};
  const trainer<braced, cpu> run(context, model, data, {});
#endif
}

}  // namespace mtp::test
