// The tests that the library's backends go through, for the backend of examples/own_backend. All
// cases of this executable are one test: they stand in headers of tests/ops.
#include "support/naive_cases.hpp"
// The cases come first.
#include "decode/score_test.hpp"
#include "docs/backends_test.hpp"
#include "ops/accept_typical_test.hpp"
#include "ops/attention_cached_test.hpp"
#include "ops/attention_test.hpp"
#include "ops/best_tokens_test.hpp"
#include "ops/choose_tokens_test.hpp"
#include "ops/combine_test.hpp"
#include "ops/embedding_test.hpp"
#include "ops/linear_cross_entropy_test.hpp"
#include "ops/linear_test.hpp"
#include "ops/optimizer_test.hpp"
#include "ops/random_test.hpp"
#include "ops/reject_drafts_test.hpp"
#include "ops/rms_norm_test.hpp"
#include "ops/rope_attention_test.hpp"
#include "ops/rope_test.hpp"
#include "ops/sequence_test.hpp"
#include "ops/swiglu_test.hpp"

TEST_CASE("the backend of the example has every operation that docs/backends.md says models call") {
  using namespace mtp::test::backend_table;
  const auto has = offered<naive, double>();
  for (const std::string& operation : names_in_table("Needed by models", 1)) {
    CAPTURE(operation);
    CHECK(has.at(operation));
  }
}

TEST_CASE("the backend of the example scores what it has generated as generation did") {
  using namespace mtp::test;
  constexpr auto config =
      score_cases::with_positions(tiny_config(mtp::head_kind::sequential, 2), 80);
  score_cases::check_generation<naive, double, config>(12);
  score_cases::check_company<naive, double, config>();
  score_cases::check_windows<naive, double, config>(100);
}
