// Configurations: what is derived from them, at compile time.
#include "mtp/model/model_config.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>

namespace mtp::test::model_model_config_cases {

namespace {

constexpr model_config with_head(head_kind head, int depth) {
  return {.hidden_size = 96,
          .attention = {.num_attention_heads = 4},
          .prediction = {.kind = head, .depth = depth}};
}

TEST_CASE("every head kind has a name of its own") {
  std::set<std::string> names;
  for (const head_kind kind : {head_kind::none,
                               head_kind::sequential,
                               head_kind::parallel,
                               head_kind::independent,
                               head_kind::recurrent,
                               head_kind::shared_logit}) {
    names.emplace(name_of(kind));
  }
  CHECK(names == std::set<std::string>{
                     "none", "sequential", "parallel", "independent", "recurrent", "shared_logit"});
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

TEST_CASE("head kinds have as many modules as they have parameter sets") {
  static_assert(with_head(head_kind::none, 0).prediction.modules() == 0);
  static_assert(with_head(head_kind::shared_logit, 3).prediction.modules() == 0);
  static_assert(with_head(head_kind::recurrent, 3).prediction.modules() == 1);
  static_assert(with_head(head_kind::sequential, 3).prediction.modules() == 3);
  static_assert(with_head(head_kind::parallel, 3).prediction.modules() == 3);
  static_assert(with_head(head_kind::independent, 3).prediction.modules() == 3);
}

TEST_CASE("head kinds draft unless they predict nothing that could be verified") {
  static_assert(!with_head(head_kind::none, 0).prediction.drafts());
  static_assert(!with_head(head_kind::shared_logit, 3).prediction.drafts());
  static_assert(with_head(head_kind::recurrent, 1).prediction.drafts());
  static_assert(with_head(head_kind::sequential, 1).prediction.drafts());
  static_assert(with_head(head_kind::parallel, 1).prediction.drafts());
  static_assert(with_head(head_kind::independent, 1).prediction.drafts());
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
