#include "support/cuda_cases.hpp"
// The backend comes first.
#include "support/cuda_tensor_ranks.hpp"
// The cases come first.
#include "ops/sum_over_ranks_test.hpp"

namespace mtp::test::sum_over_ranks_cases {

TEST_CASE("a sum in the engine's order has the same bits on all ranks") {
  const index_t count = 33;
  std::vector<std::vector<bf16>> all(3);
  run_ranks(3, [&](thread_communicator& group) {
    staged_context context({.workspace_bytes = 0, .product_bytes = 0});
    copied_tensor_ranks ranks(context, group, reduction_order::engine);
    context.join(ranks);
    guarded<bf16, 1, staged> own(dims<1>{count}, numbers<bf16>(count, group.rank()));
    sum_over_ranks(context, own.view());
    all[static_cast<std::size_t>(group.rank())] = elements(own.view());
  });
  CHECK(same_bits(all[1], all[0]));
  CHECK(same_bits(all[2], all[0]));
  // Threads add in the order of ranks, too, and round once.
  CHECK(same_bits(all[0], expected_sums<bf16>(count, 3)));
}

TEST_CASE("a context joins ranks of its own stream alone") {
  run_ranks(1, [](thread_communicator& group) {
    cuda_context context({.workspace_bytes = 0, .product_bytes = 0});
    cuda_context other({.workspace_bytes = 0, .product_bytes = 0});
    copied_tensor_ranks ranks(other, group);
    CHECK(rejects("cuda_context::join", [&] { context.join(ranks); }));
    CHECK(context.ranks() == nullptr);
  });
}

}  // namespace mtp::test::sum_over_ranks_cases
