// expects: model_config: num_experts_per_tok must be at least 1, and at most as many as the experts
// of topk_group groups
#include "compile_fail/backends.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

#ifdef MTP_KO
inline constexpr int config_experts_chosen = 5;
#else
inline constexpr int config_experts_chosen = 4;
#endif

constexpr model_config config_experts{
    .feed_forward = {.kind = feed_forward_kind::mixture_of_experts,
                     .n_routed_experts = 8,
                     .num_experts_per_tok = config_experts_chosen,
                     .moe_intermediate_size = 16,
                     .n_group = 4,
                     .topk_group = 2}};

using config_experts_model = language_model<config_experts, host>;
static_assert(config_experts_model::layout.storage > 0);

}  // namespace mtp::test
