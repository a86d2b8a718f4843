// expects: trainer: expected a context, a language_model and a dataset of the trainer's own
// configuration, backend, element type and token type
#include "compile_fail/backends.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/train/trainer.hpp"

namespace mtp::test {

constexpr model_config wide{.hidden_size = 128};

void trainer_of_other_tokens(context<cpu>& context,
                             language_model<wide, cpu>& model,
                             const dataset<>& bytes,
                             const dataset<token_t>& words) {
#ifdef MTP_KO
  static_cast<void>(bytes);
  const trainer<wide, cpu> run(context, model, words, {});
#else
  static_cast<void>(words);
  const trainer<wide, cpu> run(context, model, bytes, {});
#endif
}

}  // namespace mtp::test
