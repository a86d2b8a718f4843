// The model of the files beside this one.
#pragma once

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

inline constexpr mtp::model_config config{
    .vocab_size = 256,
    .hidden_size = 64,
    .num_hidden_layers = 2,
    .max_position_embeddings = 128,
    .attention = {.num_attention_heads = 2},
    .feed_forward = {.intermediate_size = 176},
    .prediction = {.kind = mtp::head_kind::sequential, .depth = 2}};
