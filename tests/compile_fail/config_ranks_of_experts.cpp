// expects: model_config: multi_head_latent and mixture_of_experts cannot be divided among ranks:
// tensor_parallel_size must be 1
#include "mtp/backend/cpu.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

#ifdef MTP_KO
constexpr model_config config_ranks_of_experts =
    tensor_parallel({.feed_forward = {.kind = feed_forward_kind::mixture_of_experts,
                                      .n_routed_experts = 4,
                                      .num_experts_per_tok = 2,
                                      .moe_intermediate_size = 32}},
                    2);
#else
constexpr model_config config_ranks_of_experts = tensor_parallel({}, 2);
#endif

using config_ranks_of_experts_model = language_model<config_ranks_of_experts, cpu>;
static_assert(config_ranks_of_experts_model::layout.storage > 0);

}  // namespace mtp::test
