// The golden files of head_kind::independent.
#include <doctest/doctest.h>

#include "golden/golden_case.hpp"

namespace mtp::test::golden_independent_cases {

namespace {

const golden_case<golden_config(head_kind::independent, 2)> plain("independent");

constexpr model_config knobs_config() {
  model_config config = golden_config(head_kind::independent, 2);
  config.tie_word_embeddings = true;
  config.prediction.hidden_tap = norm_tap::pre_norm;
  return config;
}
const golden_case<knobs_config()> knobs("independent_knobs");

TEST_CASE("golden file independent describes its model") {
  plain.check_config();
  plain.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file independent", S, double, float) {
  plain.check_values<S>();
}

TEST_CASE("golden file independent_knobs describes its model") {
  knobs.check_config();
  knobs.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file independent_knobs",
                   S,
                   double,
                   float) {
  knobs.check_values<S>();
}

}  // namespace

}  // namespace mtp::test::golden_independent_cases
