// The same with heads whose modules have blocks of their own, one behind the other.
#include <doctest/doctest.h>

#include "examples/own_layer_config.hpp"
#include "support/layer_kit.hpp"

namespace mtp::test::examples_own_layer_kind_modules_cases {

TEST_CASE("layers from outside keep their promises under sequential heads") {
  check_layers<own_layers(head_kind::sequential, 2)>();
}

TEST_CASE("layers from outside keep their promises under a recurrent head, in double") {
  check_layers<own_layers(head_kind::recurrent, 2), double>();
}

}  // namespace mtp::test::examples_own_layer_kind_modules_cases
