// Heads of every kind over layers with latent attention: gradients, and drafts that change nothing,
// in every element type.
#include <doctest/doctest.h>

#include "support/decoding.hpp"
#include "support/latent_config.hpp"
#include "support/layer_kit.hpp"

namespace mtp::test::latent_attention_heads_cases {

namespace {

/// Gradients of the loss, then text and logits with drafts as without.
template <model_config Config>
void check_head() {
  check_differences<Config>(divided_batch(Config, 2, 7, 3), loss_normalization::valid_targets);
  if constexpr (Config.prediction.drafts()) {
    check_speculation<Config>();
    check_drafting_histories<Config>();
  }
}

/// One in which every option is the other way, and queries come without a low rank.
constexpr model_config flipped(head_kind kind, int depth) {
  return with_plain_queries(flipped_spoken_config(kind, depth));
}

}  // namespace

TEST_CASE("parallel heads over latent attention are trained and draft") {
  check_head<with_latents(spoken_config(head_kind::parallel, 2))>();
}

TEST_CASE("independent heads over latent attention are trained and draft") {
  check_head<flipped(head_kind::independent, 2)>();
}

TEST_CASE("a recurrent head over latent attention is trained and drafts") {
  check_head<flipped(head_kind::recurrent, 3)>();
}

TEST_CASE("shared logits over latent attention are trained") {
  check_head<with_latents(spoken_config(head_kind::shared_logit, 2))>();
}

TEST_CASE("latent attention decodes in bf16 and f64 as in f32") {
  SUBCASE("bf16") {
    check_decoding<latent_layers(head_kind::sequential, 2), bf16>();
  }
  SUBCASE("f64, and a norm of what the layer adds") {
    constexpr model_config config = [] {
      model_config normed = latent_layers(head_kind::sequential, 2);
      normed.attention.post_norm = true;
      return normed;
    }();
    check_decoding<config, double>();
  }
}

}  // namespace mtp::test::latent_attention_heads_cases
