// expects: decoder: the context and the model must outlive the decoder, so they need names
#include "compile_fail/backends.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/decode/decoder.hpp"

namespace mtp::test {

constexpr model_config decoded{.hidden_size = 64};

void decoder_of_a_temporary_model(context<cpu>& context) {
#ifdef MTP_KO
  const decoder<decoded, cpu> sequence(context, language_model<decoded, cpu>(context, seed{1}));
#else
  const language_model<decoded, cpu> model(context, seed{1});
  const decoder<decoded, cpu> sequence(context, model);
#endif
}

}  // namespace mtp::test
