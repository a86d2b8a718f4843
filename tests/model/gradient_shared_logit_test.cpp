// Gradients of whole models with head_kind::shared_logit.
#include <doctest/doctest.h>

#include "model/gradient_check.hpp"

namespace mtp::test::model_gradient_shared_logit_cases {

namespace {

TEST_CASE("gradients of head kind shared_logit are those of its losses") {
  check_gradients<tiny_config(head_kind::shared_logit, 2)>();
}

TEST_CASE("gradients of head kind shared_logit are those of its losses with every option flipped") {
  check_gradients<flipped_config(head_kind::shared_logit, 3)>();
}

}  // namespace

}  // namespace mtp::test::model_gradient_shared_logit_cases
