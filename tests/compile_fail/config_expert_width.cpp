// expects: model_config: in a mixture of experts hidden_size and 2 moe_intermediate_size must be
// multiples of 32, so that an expert's outputs are a part of one matrix
#include "mtp/backend/cpu.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::test {

#ifdef MTP_KO
inline constexpr int config_expert_width = 24;
#else
inline constexpr int config_expert_width = 48;
#endif

constexpr model_config config_with_width{
    .feed_forward = {.kind = feed_forward_kind::mixture_of_experts,
                     .n_routed_experts = 8,
                     .num_experts_per_tok = 2,
                     .moe_intermediate_size = config_expert_width}};

using config_expert_width_model = language_model<config_with_width, cpu>;
static_assert(config_expert_width_model::layout.storage > 0);

}  // namespace mtp::test
