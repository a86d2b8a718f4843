// Gradients of whole models with head_kind::recurrent.
#include <doctest/doctest.h>

#include "model/gradient_check.hpp"

namespace mtp::test::model_gradient_recurrent_cases {

namespace {

TEST_CASE("gradients of head kind recurrent are those of its losses") {
  check_gradients<tiny_config(head_kind::recurrent, 3)>();
}

TEST_CASE("gradients of head kind recurrent are those of its losses with every option flipped") {
  check_gradients<flipped_config(head_kind::recurrent, 2)>();
}

}  // namespace

}  // namespace mtp::test::model_gradient_recurrent_cases
