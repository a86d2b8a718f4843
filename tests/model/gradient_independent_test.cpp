// Gradients of whole models with head_kind::independent.
#include <doctest/doctest.h>

#include "model/gradient_check.hpp"

namespace mtp::test::model_gradient_independent_cases {

namespace {

TEST_CASE("gradients of head kind independent are those of its losses") {
  check_gradients<tiny_config(head_kind::independent, 2)>();
}

TEST_CASE("gradients of head kind independent are those of its losses with every option flipped") {
  check_gradients<flipped_config(head_kind::independent, 3)>();
}

}  // namespace

}  // namespace mtp::test::model_gradient_independent_cases
