// Kinds of layers of one's own, plugged in from outside the library: attention over a window and a
// sink, and a mixture of two experts behind a first dense block. Everything treats them as any
// other layers.
#include "../plugged_in.hpp"
#include "sink_window.hpp"
#include "two_experts.hpp"

constexpr mtp::model_config config{
    .hidden_size = 64,
    .num_hidden_layers = 2,
    .max_position_embeddings = 192,
    .attention = {.kind = sink_window, .num_attention_heads = 4, .num_key_value_heads = 2},
    .feed_forward = {.kind = two_experts, .intermediate_size = 88, .first_k_dense_replace = 1},
    .prediction = {.kind = mtp::head_kind::sequential, .depth = 2}};

int main() {
  return example::try_out<config>();
}
