// A model that is compiled in one file and used in many.
#pragma once

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

inline constexpr mtp::model_config config{
    .vocab_size = 32,
    .hidden_size = 16,
    .num_hidden_layers = 1,
    .max_position_embeddings = 32,
    .attention = {.num_attention_heads = 1},
    .feed_forward = {.intermediate_size = 16},
    .prediction = {.kind = mtp::head_kind::sequential, .depth = 1}};

extern template class mtp::language_model<config, mtp::cpu>;
extern template class mtp::generator<config, mtp::cpu>;
extern template class mtp::trainer<config, mtp::cpu>;
