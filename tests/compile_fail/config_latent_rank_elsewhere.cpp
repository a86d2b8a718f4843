// expects: model_config: q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim and
// v_head_dim are sizes of attention_kind::multi_head_latent
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

#ifdef MTP_KO
constexpr attention_config config_latent_rank_elsewhere_attention{.num_attention_heads = 3,
                                                                  .kv_lora_rank = 12};
#else
constexpr attention_config config_latent_rank_elsewhere_attention{.num_attention_heads = 3};
#endif
constexpr model_config config_latent_rank_elsewhere{
    .hidden_size = 36, .attention = config_latent_rank_elsewhere_attention};

using config_latent_rank_elsewhere_model = language_model<config_latent_rank_elsewhere, host>;
static_assert(config_latent_rank_elsewhere_model::layout.storage > 0);

}  // namespace mtp::test
