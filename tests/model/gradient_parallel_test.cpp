// Gradients of whole models with head_kind::parallel.
#include <doctest/doctest.h>

#include "model/gradient_check.hpp"

namespace mtp::test::model_gradient_parallel_cases {

namespace {

TEST_CASE("gradients of head kind parallel are those of its losses") {
  check_gradients<tiny_config(head_kind::parallel, 2)>();
}

TEST_CASE("gradients of head kind parallel are those of its losses with every option flipped") {
  check_gradients<flipped_config(head_kind::parallel, 3)>();
}

}  // namespace

}  // namespace mtp::test::model_gradient_parallel_cases
