// A model that is compiled in one file and used in many.
#pragma once

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

inline constexpr mtp::model_config config{.vocab_size = 32,
                                          .hidden_size = 16,
                                          .num_layers = 1,
                                          .num_heads = 1,
                                          .intermediate_size = 16,
                                          .max_positions = 32,
                                          .head = mtp::head_kind::sequential,
                                          .depth = 1};

extern template class mtp::language_model<config, mtp::cpu>;
extern template class mtp::generator<config, mtp::cpu>;
extern template class mtp::trainer<config, mtp::cpu>;
