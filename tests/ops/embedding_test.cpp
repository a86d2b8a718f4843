#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/embedding_test.hpp"

namespace mtp::test::embedding {

TEST_CASE("embedding operations on the host reject tokens outside the table and change nothing") {
  using S = float;
  cpu_context context({.threads = 1});
  guarded_weight<S, cpu> table(5, 3, uniform(15, 1));
  guarded<S, 2, cpu> x(dims<2>{4, 3});
  auto large = guarded_tokens<cpu>({0, 4, 5, 1}), negative = guarded_tokens<cpu>({0, 4, 2, -1});
  const auto both = [&](auto tokens) {
    CHECK(rejects("embedding_forward",
                  [&] { embedding_forward(context, x.view(), table.view(), tokens); }));
    return rejects("embedding_backward",
                   [&] { embedding_backward(context, table.view(), x.view(), tokens); });
  };
  const comparison outside = both(large.view());
  CHECK(outside);
  CHECK(outside.message == "embedding_backward: token 5 at position 2 does not lie in [0, 5)");
  CHECK(both(negative.view()));
  CHECK(x.untouched());
  CHECK(table.untouched());
}

}  // namespace mtp::test::embedding
