// The model of the files beside this one.
#pragma once

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

inline constexpr mtp::model_config config{.vocab_size = 256,
                                          .hidden_size = 64,
                                          .num_layers = 2,
                                          .num_heads = 2,
                                          .intermediate_size = 176,
                                          .max_positions = 128,
                                          .head = mtp::head_kind::sequential,
                                          .depth = 2};
