// Configurations: what is derived from them, at compile time.
#include "mtp/model/model_config.hpp"

#include <doctest/doctest.h>

namespace mtp::test::model_model_config_cases {

namespace {

constexpr model_config with_head(head_kind head, int depth) {
  return {.hidden_size = 96,
          .attention = {.num_attention_heads = 4},
          .prediction = {.kind = head, .depth = depth}};
}

TEST_CASE("sizes that are not given follow from those that are") {
  constexpr model_config plain = with_head(head_kind::none, 0);
  static_assert(plain.num_key_value_heads() == 4);
  static_assert(plain.head_dim() == 24);

  constexpr model_config given = [] {
    model_config config = with_head(head_kind::none, 0);
    config.attention.num_key_value_heads = 2;
    config.attention.head_dim = 10;
    return config;
  }();
  static_assert(given.num_key_value_heads() == 2);
  static_assert(given.head_dim() == 10);
}

TEST_CASE("configurations are equal if all their fields are") {
  constexpr model_config one = with_head(head_kind::sequential, 2);
  static_assert(one == with_head(head_kind::sequential, 2));
  static_assert(one != with_head(head_kind::sequential, 3));
  static_assert(one != with_head(head_kind::recurrent, 2));
  static_assert(one != [] {
    model_config other = with_head(head_kind::sequential, 2);
    other.prediction.recycle_tap = norm_tap::pre_norm;
    return other;
  }());
  static_assert(one != [] {
    model_config other = with_head(head_kind::sequential, 2);
    other.prediction.chain = chain_input::target_hidden;
    return other;
  }());
}

/// The head of a configuration that is a template argument, as a program reads it while it runs.
template <model_config Config>
head_kind head_at_run_time() {
  return Config.prediction.kind;
}

TEST_CASE("the head of a template argument is the same while a program runs") {
  CHECK(head_at_run_time<with_head(head_kind::sequential, 2)>() == head_kind::sequential);
  CHECK(head_at_run_time<with_head(head_kind::recurrent, 2)>() == head_kind::recurrent);
  const head_kind read = head_at_run_time<with_head(head_kind::parallel, 1)>();
  CHECK(name_of(read) == "parallel");
  CHECK(read.owns_last_block);
}

TEST_CASE("a configuration that makes a model is valid") {
  static_assert(validate<model_config{}>());
  static_assert(validate<with_head(head_kind::sequential, 2)>());
  static_assert(validate<model_config{.hidden_size = 10,
                                      .attention = {.num_attention_heads = 3, .head_dim = 4}}>());
}

}  // namespace

}  // namespace mtp::test::model_model_config_cases
