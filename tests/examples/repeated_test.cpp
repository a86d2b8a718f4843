#include "generate/repeated.hpp"

#include <doctest/doctest.h>
#include <utility>

#include "mtp/model/heads/recurrent.hpp"
#include "mtp/model/heads/sequential.hpp"
#include "support/model.hpp"

namespace mtp::test::examples_repeated_cases {

TEST_CASE("the only module of a checkpoint is applied as often as asked and others stay") {
  constexpr model_config one = tiny_config(head_kind::sequential, 1);
  constexpr model_config again = example::repeated(one, 3);
  CHECK(again.prediction.kind == head_kind::recurrent);
  CHECK(again.prediction.depth == 3);
  CHECK(again.prediction.modules() == one.prediction.modules());
  CHECK(example::repeated(one, 0) == one);
  for (const auto& [kind, depth] : {std::pair{head_kind::sequential, 2},
                                    std::pair{head_kind::parallel, 1},
                                    std::pair{head_kind::independent, 1}}) {
    const model_config other = tiny_config(kind, depth);
    CHECK(example::repeated(other, 3) == other);
  }
}

}  // namespace mtp::test::examples_repeated_cases
