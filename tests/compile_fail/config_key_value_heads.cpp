// expects: model_config: num_attention_heads must be divisible by num_key_value_heads
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

#ifdef MTP_KO
constexpr model_config config_key_value_heads{
    .attention = {.num_attention_heads = 4, .num_key_value_heads = 3}};
#else
constexpr model_config config_key_value_heads{
    .attention = {.num_attention_heads = 4, .num_key_value_heads = 2}};
#endif

using config_key_value_heads_model = language_model<config_key_value_heads, host>;
static_assert(config_key_value_heads_model::layout.storage > 0);

}  // namespace mtp::test
