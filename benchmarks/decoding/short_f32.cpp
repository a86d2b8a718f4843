// Models of an instant: a test runs every benchmark with them.
#include "language_models.hpp"

namespace mtp::bench {
namespace {

constexpr model_config tiny(head_kind head, int depth) {
  model_config config = in_cache(head, depth);
  config.hidden_size = 64;
  config.num_hidden_layers = 2;
  config.max_position_embeddings = 512;
  config.attention.num_attention_heads = 1;
  config.feed_forward.intermediate_size = 96;
  return config;
}

[[maybe_unused]] const bool added =
    add_model_of<tiny(head_kind::shared_logit, row_passes::most - 1), elements_as_they_are<float>>(
        "short", {16}, 8) &&
    add_model_of<tiny(head_kind::parallel, 2), elements_as_they_are<float>>("short", {16}, 8) &&
    add_model_of<tiny(head_kind::independent, 2), elements_as_they_are<float>>("short", {16}, 8);

}  // namespace
}  // namespace mtp::bench
