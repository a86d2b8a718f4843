// The tests that the library's backends go through, for the backend of examples/own_backend. All
// cases of this executable are one test: they stand in headers of tests/ops.
#include "support/naive_cases.hpp"
// The cases come first.
#include "docs/backends_test.hpp"
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
#include "ops/rms_norm_test.hpp"
#include "ops/rope_attention_test.hpp"
#include "ops/rope_test.hpp"
#include "ops/sequence_test.hpp"
#include "ops/swiglu_test.hpp"

TEST_CASE("the backend of the example has every operation that docs/backends.md says models call") {
  using namespace mtp::test::backend_table;
  const auto has = offered<naive, double>();
  for (const std::string& operation : names_in_table("Owed to models", 1)) {
    CAPTURE(operation);
    CHECK(has.at(operation));
  }
}
