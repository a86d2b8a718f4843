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

/// With a hidden state in front of the norm, whose gradient is a sum over depths.
constexpr model_config side_by_side = [] {
  model_config config = flipped_config(head_kind::sequential, 3);
  config.prediction.chain = chain_input::target_hidden;
  return config;
}();

TEST_CASE("gradients of sequential modules that all read the trunk are those of their losses") {
  check_gradients<side_by_side>();
}

}  // namespace

}  // namespace mtp::test::model_gradient_sequential_cases
