#include "support/cpu_cases.hpp"
#include "support/tensor_ranks.hpp"
// The cases come first.
#include "ops/sharded_embedding_test.hpp"

namespace mtp::test::sharded_embedding_cases {

TEST_CASE("operations on a divided table on the host reject tokens that no rank has") {
  combination<float, cpu> own(0, 6);  // of 12
  own.tokens.set(std::vector<double>(13, 12));
  on_ranks(2, [&](cpu_context& context, int rank) {
    if (rank != 0) return;
    CHECK(rejects("sharded_embedding_forward", [&] {
      sharded_embedding_forward(context, own.y.view(), own.table.view(), own.tokens.view());
    }));
    CHECK(rejects("sharded_embedding_backward", [&] {
      sharded_embedding_backward(context, own.dtable.view(), own.dy.view(), own.tokens.view());
    }));
    CHECK(rejects("sharded_combine_forward", [&] {
      own.forward([](auto&&... all) { sharded_combine_forward(all...); },
                  context,
                  concat_order::hidden_first);
    }));
    CHECK(rejects("sharded_combine_backward", [&] {
      own.backward([](auto&&... all) { sharded_combine_backward(all...); },
                   context,
                   concat_order::hidden_first);
    }));
  });
  CHECK(own.y.untouched());
  CHECK(own.dhidden.untouched());
  CHECK(own.dtable.untouched());
}

}  // namespace mtp::test::sharded_embedding_cases
