#include "support/cuda_cases.hpp"
// The backend comes first.
#include "decode/score_test.hpp"

namespace mtp::test::score_cases {

TEST_CASE("a GPU scores what was generated as generation did") {
  check_generation<cuda, float, with_positions(tiny_config(head_kind::sequential, 2), 80)>(12);
}

TEST_CASE("a GPU scores a sequence alike in any company") {
  check_company<cuda, float, with_positions(tiny_config(head_kind::sequential, 2), 80)>();
}

TEST_CASE("a GPU scores in windows, and gives hidden states once") {
  check_windows<cuda, bf16, flipped_config(head_kind::parallel, 1)>(100);
}

}  // namespace mtp::test::score_cases
