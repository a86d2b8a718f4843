// expects: generator: the context and the model must outlive the generator, so they need names
#include "compile_fail/backends.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/decode/generate.hpp"

namespace mtp::test {

constexpr model_config waited{.hidden_size = 64};

void generator_of_a_temporary_context(const language_model<waited, cpu>& model) {
#ifdef MTP_KO
  const generator<waited, cpu> writer(context<cpu>(), model);
#else
  context<cpu> named;
  const generator<waited, cpu> writer(named, model);
#endif
}

}  // namespace mtp::test
