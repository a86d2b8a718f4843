// The same with heads side by side on the output of the trunk.
#include <doctest/doctest.h>

#include "examples/own_layer_config.hpp"
#include "support/layer_kit.hpp"

namespace mtp::test::examples_own_layer_kind_parallel_cases {

TEST_CASE("layers from outside keep their promises under parallel heads") {
  check_layers<own_layers(head_kind::parallel, 2)>();
}

}  // namespace mtp::test::examples_own_layer_kind_parallel_cases
