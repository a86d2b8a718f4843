// expects: model_config: the head width must be even for rotary positions
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

#ifdef MTP_KO
constexpr model_config config_odd_head_width{.hidden_size = 36,
                                             .attention = {.num_attention_heads = 4}};
#else
constexpr model_config config_odd_head_width{.hidden_size = 40,
                                             .attention = {.num_attention_heads = 4}};
#endif

using config_odd_head_width_model = language_model<config_odd_head_width, host>;
static_assert(config_odd_head_width_model::layout.storage > 0);

}  // namespace mtp::test
