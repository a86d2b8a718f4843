// Data-parallel training of models with bf16 and f64 elements.
#include <doctest/doctest.h>

#include "train/ranks.hpp"

namespace mtp::test::train_ranks_elements_cases {

TEST_CASE("bf16: parameters, masters and moments have the bits of one process") {
  check_ranks<rank_config(head_kind::sequential, 1), bf16>({}, {2, 3, 4});
}

TEST_CASE("bf16: a head that is trained alone has the bits of one process") {
  rank_setup<rank_config(head_kind::independent, 1)> setup;
  setup.options.loss.scope = gradient_scope::heads_only;
  setup.options.accumulation = 4;
  check_ranks<rank_config(head_kind::independent, 1), bf16>(setup, {2, 3}, 4);
}

TEST_CASE("f64: parameters and moments have the bits of one process") {
  check_ranks<rank_config(head_kind::parallel, 1), double>({}, {2, 3, 4});
}

}  // namespace mtp::test::train_ranks_elements_cases
