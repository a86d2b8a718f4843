// expects: model_config: hidden_size must be divisible by num_attention_heads unless head_dim is
// given
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

#ifdef MTP_KO
constexpr model_config config_width{.hidden_size = 64, .attention = {.num_attention_heads = 3}};
#else
constexpr model_config config_width{.hidden_size = 64, .attention = {.num_attention_heads = 4}};
#endif

using config_width_model = language_model<config_width, host>;
static_assert(config_width_model::layout.storage > 0);

}  // namespace mtp::test
