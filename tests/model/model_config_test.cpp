// Configurations: what is derived from them, at compile time.
#include "mtp/model/model_config.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>

namespace mtp::test::model_model_config_cases {

namespace {

constexpr model_config with_head(head_kind head, int depth) {
  return {.hidden_size = 96, .num_heads = 4, .head = head, .depth = depth};
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
  static_assert(plain.key_value_heads() == 4);
  static_assert(plain.head_width() == 24);
  static_assert(plain.query_size() == 96);
  static_assert(plain.key_value_size() == 96);
  static_assert(plain.qkv_size() == 3 * 96);

  constexpr model_config given = [] {
    model_config config = with_head(head_kind::none, 0);
    config.num_key_value_heads = 2;
    config.head_dim = 10;
    return config;
  }();
  static_assert(given.key_value_heads() == 2);
  static_assert(given.head_width() == 10);
  static_assert(given.query_size() == 40);
  static_assert(given.key_value_size() == 20);
  static_assert(given.qkv_size() == 40 + 2 * 20);
}

TEST_CASE("head kinds have as many modules as they have parameter sets") {
  static_assert(with_head(head_kind::none, 0).head_modules() == 0);
  static_assert(with_head(head_kind::shared_logit, 3).head_modules() == 0);
  static_assert(with_head(head_kind::recurrent, 3).head_modules() == 1);
  static_assert(with_head(head_kind::sequential, 3).head_modules() == 3);
  static_assert(with_head(head_kind::parallel, 3).head_modules() == 3);
  static_assert(with_head(head_kind::independent, 3).head_modules() == 3);
}

TEST_CASE("head kinds draft unless they predict nothing that could be verified") {
  static_assert(!with_head(head_kind::none, 0).drafts());
  static_assert(!with_head(head_kind::shared_logit, 3).drafts());
  static_assert(with_head(head_kind::recurrent, 1).drafts());
  static_assert(with_head(head_kind::sequential, 1).drafts());
  static_assert(with_head(head_kind::parallel, 1).drafts());
  static_assert(with_head(head_kind::independent, 1).drafts());
}

TEST_CASE("configurations are equal if all their fields are") {
  constexpr model_config one = with_head(head_kind::sequential, 2);
  static_assert(one == with_head(head_kind::sequential, 2));
  static_assert(one != with_head(head_kind::sequential, 3));
  static_assert(one != with_head(head_kind::recurrent, 2));
  static_assert(one != [] {
    model_config other = with_head(head_kind::sequential, 2);
    other.recycle_tap = norm_tap::pre_norm;
    return other;
  }());
}

/// The head of a configuration that is a template argument, as a program reads it while it runs.
template <model_config Config>
head_kind head_at_run_time() {
  return Config.head;
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
  static_assert(validate<model_config{.hidden_size = 10, .num_heads = 3, .head_dim = 4}>());
}

}  // namespace

}  // namespace mtp::test::model_model_config_cases
