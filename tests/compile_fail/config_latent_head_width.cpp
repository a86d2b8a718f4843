// expects: model_config: qk_nope_head_dim and v_head_dim must be multiples of 32, so that the part
// of each head is whole panels of a weight
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

#ifdef MTP_KO
constexpr attention_config config_latent_head_width_attention{
    .kind = attention_kind::multi_head_latent,
    .num_attention_heads = 5,
    .kv_lora_rank = 12,
    .qk_nope_head_dim = 32,
    .qk_rope_head_dim = 8,
    .v_head_dim = 48};
#else
constexpr attention_config config_latent_head_width_attention{
    .kind = attention_kind::multi_head_latent,
    .num_attention_heads = 5,
    .kv_lora_rank = 12,
    .qk_nope_head_dim = 32,
    .qk_rope_head_dim = 8,
    .v_head_dim = 64};
#endif
constexpr model_config config_latent_head_width{.hidden_size = 36,
                                                .attention = config_latent_head_width_attention};

using config_latent_head_width_model = language_model<config_latent_head_width, host>;
static_assert(config_latent_head_width_model::layout.storage > 0);

}  // namespace mtp::test
