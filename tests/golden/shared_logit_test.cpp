// The golden files of head_kind::shared_logit.
#include <doctest/doctest.h>

#include "golden/golden_case.hpp"

namespace {

using namespace mtp;
using namespace mtp::test;

const golden_case<golden_config(head_kind::shared_logit, 2)> plain("shared_logit");

TEST_CASE("golden file shared_logit describes its model") {
  plain.check_config();
  plain.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file shared_logit", S, double, float) {
  plain.check_values<S>();
}

}  // namespace
