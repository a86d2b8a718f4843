// The golden files of head_kind::recurrent.
#include <doctest/doctest.h>

#include "golden/golden_case.hpp"

namespace mtp::test::golden_recurrent_cases {

namespace {

const golden_case<golden_config(head_kind::recurrent, 3)> plain("recurrent");

constexpr model_config knobs_config() {
  model_config config = golden_config(head_kind::recurrent, 2);
  config.tie_word_embeddings = true;
  config.prediction.concat = concat_order::embedding_first;
  return config;
}
const golden_case<knobs_config()> knobs("recurrent_knobs");

TEST_CASE("golden file recurrent describes its model") {
  plain.check_config();
  plain.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file recurrent", S, double, float) {
  plain.check_values<S>();
}

TEST_CASE("golden file recurrent_knobs describes its model") {
  knobs.check_config();
  knobs.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file recurrent_knobs", S, double, float) {
  knobs.check_values<S>();
}

}  // namespace

}  // namespace mtp::test::golden_recurrent_cases
