// expects: model_config: multi_head_latent takes no qkv_bias and no qk_norm
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

#ifdef MTP_KO
constexpr attention_config config_latent_bias_attention{.kind = attention_kind::multi_head_latent,
                                                        .num_attention_heads = 5,
                                                        .qkv_bias = true,
                                                        .kv_lora_rank = 12,
                                                        .qk_nope_head_dim = 32,
                                                        .qk_rope_head_dim = 8,
                                                        .v_head_dim = 64};
#else
constexpr attention_config config_latent_bias_attention{.kind = attention_kind::multi_head_latent,
                                                        .num_attention_heads = 5,
                                                        .kv_lora_rank = 12,
                                                        .qk_nope_head_dim = 32,
                                                        .qk_rope_head_dim = 8,
                                                        .v_head_dim = 64};
#endif
constexpr model_config config_latent_bias{.hidden_size = 36,
                                          .attention = config_latent_bias_attention};

using config_latent_bias_model = language_model<config_latent_bias, host>;
static_assert(config_latent_bias_model::layout.storage > 0);

}  // namespace mtp::test
