// The golden files of head_kind::sequential.
#include <doctest/doctest.h>

#include "golden/golden_case.hpp"

namespace mtp::test::golden_sequential_cases {

namespace {

const golden_case<golden_config(head_kind::sequential, 2)> plain("sequential");

constexpr model_config knobs_config() {
  model_config config = golden_config(head_kind::sequential, 3);
  config.tie_word_embeddings = true;
  config.attention.qkv_bias = true;
  config.attention.qk_norm = true;
  config.prediction.concat = concat_order::embedding_first;
  config.prediction.hidden_tap = norm_tap::pre_norm;
  config.prediction.recycle_tap = norm_tap::pre_norm;
  config.prediction.output_norm = output_norm_kind::shared;
  return config;
}
const golden_case<knobs_config()> knobs("sequential_knobs");

const golden_case<golden_config(head_kind::sequential, 2)> window("sequential_paper_window");

const golden_case<golden_config(head_kind::sequential, 2)> detached("sequential_detached");

TEST_CASE("golden file sequential describes its model") {
  plain.check_config();
  plain.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file sequential", S, double, float) {
  plain.check_values<S>();
}

TEST_CASE("golden file sequential_knobs describes its model") {
  knobs.check_config();
  knobs.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file sequential_knobs", S, double, float) {
  knobs.check_values<S>();
}

TEST_CASE("golden file sequential_paper_window describes its model") {
  window.check_config();
  window.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file sequential_paper_window",
                   S,
                   double,
                   float) {
  window.check_values<S>();
}

TEST_CASE("golden file sequential_detached describes its model") {
  detached.check_config();
  detached.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file sequential_detached",
                   S,
                   double,
                   float) {
  detached.check_values<S>();
}

}  // namespace

}  // namespace mtp::test::golden_sequential_cases
