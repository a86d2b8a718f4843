// Kinds of layers from outside the library owe what its own do: with heads that draft nothing, and
// in every element type.
#include <doctest/doctest.h>

#include "examples/own_layer_config.hpp"
#include "support/layer_kit.hpp"

namespace mtp::test::examples_own_layer_kind_cases {

TEST_CASE("layers from outside keep their promises without a head") {
  check_layers<own_layers(head_kind::none, 0)>();
}

TEST_CASE("layers from outside keep their promises under shared logits") {
  check_layers<own_layers(head_kind::shared_logit, 2)>();
}

TEST_CASE("layers from outside keep their promises in bf16") {
  check_decoding<own_layers(head_kind::none, 0), bf16>();
}

}  // namespace mtp::test::examples_own_layer_kind_cases
