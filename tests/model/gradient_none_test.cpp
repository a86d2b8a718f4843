// Gradients of whole models with head_kind::none.
#include <doctest/doctest.h>

#include "model/gradient_check.hpp"

namespace mtp::test::model_gradient_none_cases {

namespace {

TEST_CASE("gradients of head kind none are those of its losses") {
  check_gradients<tiny_config(head_kind::none, 0)>();
}

TEST_CASE("gradients of head kind none are those of its losses with every option flipped") {
  check_gradients<flipped_config(head_kind::none, 0)>();
}

}  // namespace

}  // namespace mtp::test::model_gradient_none_cases
