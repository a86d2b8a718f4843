#include "mtp/model/head_kind.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <utility>

namespace mtp::test::model_head_kind_cases {

namespace {

template <class Kind>
concept has_name = requires(Kind&& kind) {
  name_of(std::forward<Kind>(kind));
};

}  // namespace

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

TEST_CASE("a head kind is told apart by its name and by each of its facts") {
  constexpr head_kind own{.name = "own"};
  static_assert(own == head_kind{.name = "own"});
  static_assert(own != head_kind{.name = "owns"});
  static_assert(own != head_kind{.name = "own", .drafts = false});
  static_assert(own != head_kind{.name = "own", .parameters = head_parameters::one});
  static_assert(own != head_kind{.name = "own", .owns_last_block = true});
  static_assert(own != head_kind{.name = "own", .one_row_has_all_targets = true});
}

TEST_CASE("a temporary kind gives no name, because the name lies in it") {
  static_assert(has_name<const head_kind&> && !has_name<head_kind>);
}

}  // namespace mtp::test::model_head_kind_cases
