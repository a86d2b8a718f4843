#include "mtp/model/layer_kind.hpp"

#include <doctest/doctest.h>

#include <string>
#include <utility>

namespace mtp::test::model_layer_kind_cases {

namespace {

template <class Kind>
concept has_name = requires(Kind&& kind) {
  name_of(std::forward<Kind>(kind));
};

}  // namespace

TEST_CASE("kinds of layers are told apart by their names") {
  constexpr attention_kind own{.name = "grouped"};
  static_assert(own == attention_kind{.name = "grouped"} && own != attention_kind::grouped_query);
  static_assert(feed_forward_kind::swiglu != feed_forward_kind{.name = "glu"});
  CHECK(std::string(name_of(attention_kind::grouped_query)) == "grouped_query");
  CHECK(std::string(name_of(feed_forward_kind::swiglu)) == "swiglu");
}

TEST_CASE("a temporary kind of layer gives no name, because the name lies in it") {
  static_assert(has_name<const attention_kind&> && !has_name<attention_kind>);
  static_assert(has_name<const feed_forward_kind&> && !has_name<feed_forward_kind>);
}

}  // namespace mtp::test::model_layer_kind_cases
