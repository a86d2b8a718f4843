// expects: generator: expected a context and a language_model of the generator's own configuration,
// backend and element type
#include "compile_fail/backends.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/decode/generate.hpp"

namespace mtp::test {

constexpr model_config deep{.prediction = {.kind = head_kind::sequential, .depth = 3}};
constexpr model_config shallow{.prediction = {.kind = head_kind::sequential, .depth = 1}};

void generator_of_another_model(context<cpu>& context,
                                const language_model<deep, cpu>& model,
                                const language_model<shallow, cpu>& other) {
#ifdef MTP_KO
  static_cast<void>(model);
  const generator<deep, cpu> writer(context, other);
#else
  static_cast<void>(other);
  const generator<deep, cpu> writer(context, model);
#endif
}

}  // namespace mtp::test
