// The library's own layers owe what kinds from outside do.
#include <doctest/doctest.h>

#include "support/decoding.hpp"
#include "support/layer_kit.hpp"

namespace mtp::test::model_layer_kit_cases {

TEST_CASE("grouped-query attention and SwiGLU keep the promises of layers") {
  check_layers<flipped_spoken_config(head_kind::sequential, 2)>();
}

TEST_CASE("grouped-query attention and SwiGLU keep the promises of layers in bf16") {
  check_decoding<spoken_config(head_kind::none, 0), bf16>();
}

}  // namespace mtp::test::model_layer_kit_cases
