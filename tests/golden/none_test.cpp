// The golden files of head_kind::none.
#include <doctest/doctest.h>

#include "golden/golden_case.hpp"

namespace mtp::test::golden_none_cases {

namespace {

constexpr model_config tied_config() {
  model_config config = golden_config(head_kind::none, 0);
  config.tie_word_embeddings = true;
  return config;
}
const golden_case<tied_config()> tied("none_tied");

constexpr model_config knobs_config() {
  model_config config = golden_config(head_kind::none, 0);
  config.attention.qkv_bias = true;
  config.attention.qk_norm = true;
  config.attention.num_attention_heads = 4;
  config.attention.num_key_value_heads = 2;
  config.attention.head_dim = 4;
  return config;
}
const golden_case<knobs_config()> knobs("none_bias_qknorm_untied");

TEST_CASE("golden file none_tied describes its model") {
  tied.check_config();
  tied.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file none_tied", S, double, float) {
  tied.check_values<S>();
}

TEST_CASE("golden file none_bias_qknorm_untied describes its model") {
  knobs.check_config();
  knobs.check_names();
}

TEST_CASE_TEMPLATE("the model gives the values of golden file none_bias_qknorm_untied",
                   S,
                   double,
                   float) {
  knobs.check_values<S>();
}

}  // namespace

}  // namespace mtp::test::golden_none_cases
