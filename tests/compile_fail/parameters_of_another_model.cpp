// expects: copy_parameters: expected two language models of one configuration
#include "compile_fail/backends.hpp"
#include "mtp/model/transfer.hpp"

namespace mtp::test {

constexpr model_config taller{.num_hidden_layers = 8};

void parameters_of_another_model(language_model<model_config{}, host>& to,
                                 const language_model<model_config{}, device>& from,
                                 const language_model<taller, device>& other) {
#ifdef MTP_KO
  static_cast<void>(from);
  copy_parameters(to, other);
#else
  static_cast<void>(other);
  copy_parameters(to, from);
#endif
}

}  // namespace mtp::test
