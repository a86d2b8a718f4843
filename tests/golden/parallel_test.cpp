// The golden files of head_kind::parallel.
#include <doctest/doctest.h>

#include "golden/golden_case.hpp"

namespace mtp::test::golden_parallel_cases {

namespace {

constexpr model_config plain_config() {
  model_config config = golden_config(head_kind::parallel, 2);
  config.prediction.output_norm = output_norm_kind::shared;
  return config;
}
const golden_case<plain_config()> plain("parallel");

constexpr model_config own_norm_config() {
  model_config config = golden_config(head_kind::parallel, 2);
  config.tie_word_embeddings = true;
  config.attention.num_attention_heads = 3;
  config.attention.num_key_value_heads = 3;
  config.attention.head_dim = 4;
  return config;
}
const golden_case<own_norm_config()> own_norm("parallel_own_norm");

constexpr model_config detached_config() {
  model_config config = golden_config(head_kind::parallel, 2);
  config.prediction.output_norm = output_norm_kind::shared;
  return config;
}
const golden_case<detached_config()> detached("parallel_detached");

TEST_CASE("golden file parallel describes its model") {
  plain.check_config();
  plain.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file parallel", S, double, float) {
  plain.check_values<S>();
}

TEST_CASE("golden file parallel_own_norm describes its model") {
  own_norm.check_config();
  own_norm.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file parallel_own_norm",
                   S,
                   double,
                   float) {
  own_norm.check_values<S>();
}

TEST_CASE("golden file parallel_detached describes its model") {
  detached.check_config();
  detached.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file parallel_detached",
                   S,
                   double,
                   float) {
  detached.check_values<S>();
}

}  // namespace

}  // namespace mtp::test::golden_parallel_cases
