#include "mtp/model/prediction_config.hpp"

#include <doctest/doctest.h>

namespace mtp::test::model_prediction_config_cases {

namespace {

constexpr prediction_config with(head_kind kind, int depth) {
  return {.kind = kind, .depth = depth};
}

}  // namespace

TEST_CASE("head kinds have as many modules as they have parameter sets") {
  static_assert(with(head_kind::none, 0).modules() == 0);
  static_assert(with(head_kind::shared_logit, 3).modules() == 0);
  static_assert(with(head_kind::recurrent, 3).modules() == 1);
  static_assert(with(head_kind::recurrent, 0).modules() == 0);
  static_assert(with(head_kind::sequential, 3).modules() == 3);
  static_assert(with(head_kind::parallel, 3).modules() == 3);
  static_assert(with(head_kind::independent, 3).modules() == 3);
}

TEST_CASE("head kinds draft unless they predict nothing that could be verified") {
  static_assert(!with(head_kind::none, 0).drafts());
  static_assert(!with(head_kind::shared_logit, 3).drafts());
  static_assert(!with(head_kind::sequential, 0).drafts());
  static_assert(with(head_kind::recurrent, 1).drafts());
  static_assert(with(head_kind::sequential, 1).drafts());
  static_assert(with(head_kind::parallel, 1).drafts());
  static_assert(with(head_kind::independent, 1).drafts());
}

}  // namespace mtp::test::model_prediction_config_cases
