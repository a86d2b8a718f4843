// The golden files of head_kind::shared_logit.
#include <doctest/doctest.h>

#include "golden/golden_case.hpp"

namespace mtp::test::golden_shared_logit_cases {

namespace {

const golden_case<golden_config(head_kind::shared_logit, 2)> plain("shared_logit");

TEST_CASE("golden file shared_logit describes its model") {
  plain.check_config();
  plain.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file shared_logit", S, double, float) {
  plain.check_values<S>();
}

}  // namespace

}  // namespace mtp::test::golden_shared_logit_cases
