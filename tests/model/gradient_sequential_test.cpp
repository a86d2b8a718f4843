// Gradients of whole models with head_kind::sequential.
#include <doctest/doctest.h>

#include "model/gradient_check.hpp"

namespace mtp::test::model_gradient_sequential_cases {

namespace {

TEST_CASE("gradients of head kind sequential are those of its losses") {
  check_gradients<tiny_config(head_kind::sequential, 2)>();
}

TEST_CASE("gradients of head kind sequential are those of its losses with every option flipped") {
  check_gradients<flipped_config(head_kind::sequential, 3)>();
}

}  // namespace

}  // namespace mtp::test::model_gradient_sequential_cases
