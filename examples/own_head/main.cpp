// A head kind of one's own, plugged in from outside the library. Everything treats it as any other
// kind.
#include "../plugged_in.hpp"
#include "linear_head.hpp"

constexpr mtp::model_config config{.hidden_size = 64,
                                   .num_hidden_layers = 2,
                                   .max_position_embeddings = 192,
                                   .attention = {.num_attention_heads = 2},
                                   .feed_forward = {.intermediate_size = 176},
                                   .prediction = {.kind = linear_heads, .depth = 3}};

int main() {
  return example::try_out<config>();
}
