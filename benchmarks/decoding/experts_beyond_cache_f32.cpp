#include "language_models.hpp"

namespace mtp::bench {

/// The sizes of examples/deepseek_v3 without its modules: 19 million parameters, 76 MB as f32. A
/// row reads 7.2 million of them. Five rows that choose 4 of 16 experts independently read 16 (1 -
/// (3 / 4)^5) = 12.2 of them instead of 4, and so 15.2 million in all: 2.1 times as many.
constexpr model_config experts(head_kind head, int depth) {
  return {.vocab_size = 256,
          .hidden_size = 256,
          .num_hidden_layers = 6,
          .max_position_embeddings = 512,
          .attention = {.kind = attention_kind::multi_head_latent,
                        .num_attention_heads = 8,
                        .q_lora_rank = 128,
                        .kv_lora_rank = 64,
                        .qk_nope_head_dim = 32,
                        .qk_rope_head_dim = 16,
                        .v_head_dim = 32},
          .feed_forward = {.kind = feed_forward_kind::mixture_of_experts,
                           .intermediate_size = 1280,
                           .first_k_dense_replace = 1,
                           .n_routed_experts = 16,
                           .num_experts_per_tok = 4,
                           .moe_intermediate_size = 256,
                           .n_shared_experts = 1},
          .prediction = {.kind = head, .depth = depth}};
}

[[maybe_unused]] static const bool added =
    add_models<experts, elements_as_they_are<float>>("experts", {128}, 64);

}  // namespace mtp::bench
