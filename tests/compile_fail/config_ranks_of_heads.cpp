// expects: model_config: tensor_parallel_size must divide num_attention_heads and
// num_key_value_heads
#include "mtp/backend/cpu.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

#ifdef MTP_KO
constexpr model_config config_ranks_of_heads =
    tensor_parallel({.attention = {.num_attention_heads = 4, .num_key_value_heads = 2}}, 4);
#else
constexpr model_config config_ranks_of_heads =
    tensor_parallel({.attention = {.num_attention_heads = 4, .num_key_value_heads = 2}}, 2);
#endif

using config_ranks_of_heads_model = language_model<config_ranks_of_heads, cpu>;
static_assert(config_ranks_of_heads_model::layout.storage > 0);

}  // namespace mtp::test
