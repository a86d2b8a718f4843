// Multi-head latent attention owes what every layer does, under every kind of head, and its two
// forms compute the same.
#include <doctest/doctest.h>

#include "support/latent_config.hpp"
#include "support/layer_kit.hpp"

namespace mtp::test::latent_attention_kit_cases {

TEST_CASE("latent attention keeps its promises without a head") {
  check_layers<latent_layers(head_kind::none, 0)>();
}

TEST_CASE("latent attention keeps its promises under a sequential head") {
  check_layers<latent_layers(head_kind::sequential, 2)>();
}

}  // namespace mtp::test::latent_attention_kit_cases
