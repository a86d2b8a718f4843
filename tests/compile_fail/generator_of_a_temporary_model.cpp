// expects: generator: the context and the model must outlive the generator, so they need names
#include "compile_fail/backends.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/decode/generate.hpp"

namespace mtp::test {

constexpr model_config written{.hidden_size = 64};

void generator_of_a_temporary_model(context<cpu>& context) {
#ifdef MTP_KO
  const generator<written, cpu> writer(context, language_model<written, cpu>(context, seed{1}));
#else
  const language_model<written, cpu> model(context, seed{1});
  const generator<written, cpu> writer(context, model);
#endif
}

}  // namespace mtp::test
