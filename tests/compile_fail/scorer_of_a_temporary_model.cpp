// expects: scorer: the context and the model must outlive the scorer, so they need names
#include "compile_fail/backends.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/decode/score.hpp"

namespace mtp::test {

constexpr model_config scored{.hidden_size = 64};

void scorer_of_a_temporary_model(context<cpu>& context) {
#ifdef MTP_KO
  const scorer<scored, cpu> refused(context, language_model<scored, cpu>(context, seed{1}));
#else
  const language_model<scored, cpu> model(context, seed{1});
  const scorer<scored, cpu> accepted(context, model);
#endif
}

}  // namespace mtp::test
