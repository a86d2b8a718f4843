// Models of every head kind give a sequence the same bits in any company.
#include <doctest/doctest.h>

#include "support/batches.hpp"
#include "support/company.hpp"

namespace mtp::test::model_invariance_cases {

TEST_CASE("head kind none gives a sequence the same bits in any company") {
  check_invariance<tiny_config(head_kind::none, 0), float>();
}
TEST_CASE("head kind sequential gives a sequence the same bits in any company") {
  check_invariance<tiny_config(head_kind::sequential, 3), float>();
}
TEST_CASE("head kind sequential in double and flipped gives the same bits in any company") {
  check_invariance<flipped_config(head_kind::sequential, 2), double>();
}
TEST_CASE("head kind recurrent gives a sequence the same bits in any company") {
  check_invariance<flipped_config(head_kind::recurrent, 3), float>();
}
TEST_CASE("head kind parallel gives a sequence the same bits in any company") {
  check_invariance<tiny_config(head_kind::parallel, 3), float>();
}
TEST_CASE("head kind independent gives a sequence the same bits in any company") {
  check_invariance<tiny_config(head_kind::independent, 3), float>();
}
TEST_CASE("head kind shared_logit gives a sequence the same bits in any company") {
  check_invariance<tiny_config(head_kind::shared_logit, 3), float>();
}

}  // namespace mtp::test::model_invariance_cases
